"""Settings of `files`: which files, what their columns mean, what is a positive, how rows are split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from collm.component import added_field, is_address, location_field
from collm.contracts.data import LAST_OUT, LAST_OUT_LEAKS, RawRowsConfig
from collm.fetching.addresses import address_fault, address_name
from collm_files.rules import DEFAULT_SHARE, IMPLICIT, NEEDS_TIMES, Columns, FilterRule, LabelRule, SplitRule

# As in `collm.ingest.times` and `collm.ingest.table_files`, which need polars: settings are checked without it.
TimeForm = Literal["auto", "day-first", "month-first", "spreadsheet-days", "days", "relative"]
ENDINGS = (
    *(".csv", ".tsv", ".txt", ".dat", ".data", ".inter", ".item", ".user", ".jsonl", ".ndjson", ".json"),
    *(".parquet", ".pq"),
)

NO_TIMES = (
    "dataset.columns names no timestamp: history follows the order of the file, and whether a split leaks from the "
    "future cannot be known"
)
ORDER_IS_TIME = (
    "dataset.file_order: each user's rows are taken to be in the order of time; whether a split leaks across users "
    "cannot be known"
)
FILTER_LOOKS_AHEAD = (
    "dataset.filter counts the rows of all splits: which training rows are kept depends on rows that are later"
)
RANDOM_LEAKS = "dataset.split random puts rows into training that are later than test rows"


def _placed(value: Path | str) -> Path | str:
    return value if is_address(value) else Path(value)


# An address stays text: as a path it would lose a slash.
Place = Annotated[str | Path, AfterValidator(_placed)]


class FilesConfig(RawRowsConfig):
    """Interactions, and titles where there are any, from your own files."""

    interactions: Place = location_field(
        ...,
        description="File with one row per interaction: .csv, .tsv, .txt, .dat, RecBole's .inter, .jsonl, .json (each "
        "also .gz) or .parquet; a folder of such parts; a pattern (logs/2024-*.csv); or an address (https://, s3://, "
        "gs://, az://, hf://), of a folder or a pattern, too.",
        addresses=True,
    )
    items: Place | None = location_field(
        description="File with one row per item and its title, in the same formats; null = none.", addresses=True
    )
    valid_interactions: Place | None = location_field(
        description="Rows of the validation split in a file of their own, as `interactions`; with split {by: files}.",
        addresses=True,
    )
    test_interactions: Place | None = location_field(
        description="Rows of the test split in a file of their own, as `interactions`; with split {by: files}.",
        addresses=True,
    )
    layout: Literal["table", "adjacency"] = added_field(
        "table",
        description="table: one row per interaction; adjacency: text lines of a user and then all items of that user, "
        "separated by blanks, without a header, as LightGCN's data.",
    )
    file_order: Literal["unknown", "time"] = added_field(
        "unknown",
        description="Without timestamps: whether the rows of each user (of an adjacency list: the items of a line) are "
        "known to appear in the order of time, oldest first.",
    )
    columns: Columns = Field(default=Columns(), description="What the files call their columns.")
    label: LabelRule = Field(description="What is a positive, e.g. {from: rating, positive_above: 3}.")
    split: SplitRule = Field(description="How rows are split, e.g. {by: quantiles, valid: 0.1, test: 0.1}.")
    times: TimeForm = Field(
        default="auto",
        description="What the values of columns.timestamp are, where they leave it open: day-first or month-first "
        "dates, spreadsheet-days, days since 1970, relative numbers; auto = as the values say.",
    )
    encoding: str | None = Field(
        default=None,
        description="Encoding of lines of text files that are not UTF-8, e.g. latin-1 or cp1252; null = they are bad "
        "rows. UTF-16 is known by a file's first bytes.",
    )
    longest_title: int | None = Field(
        default=None, ge=8, description="Characters of a title; longer ones are cut, with a note; null = none is cut."
    )
    filter: FilterRule | None = added_field(
        None,
        description="Users and items with too few rows that are left out, after duplicates and before the split, e.g. "
        "{by: k-core, user_rows: 5, item_rows: 5}; null = all are kept.",
    )
    duplicates: Literal["keep-last", "keep-all", "refuse"] = Field(
        default="keep-last",
        description="Rows of the same user and item: keep-last keeps the newest (the later in the file where times are "
        "equal) and counts the others in a note; keep-all; refuse: an error.",
    )

    users: Place | None = location_field(
        description="File with one row per user and what encoders may see of them, in the same formats; null = none.",
        addresses=True,
    )
    item_attributes: tuple[str, ...] = added_field(
        (), description="Columns of `items` that encoders may see beside titles: text, numbers, true or false."
    )
    user_attributes: tuple[str, ...] = added_field(
        (), description="Columns of `users` that encoders may see: text, numbers, true or false."
    )

    @field_validator("path", mode="after")
    @classmethod
    def _no_folder(cls, value: Path | None) -> Path | None:
        if value is not None:
            raise ValueError("'files' has no folder: name the files in `interactions` and `items`")
        return value

    @field_validator("interactions", "valid_interactions", "test_interactions", "items", "users", mode="after")
    @classmethod
    def _readable(cls, value: Path | str | None) -> Path | str | None:
        if isinstance(value, str) and (fault := address_fault(value)):
            raise ValueError(fault)
        last = "" if value is None else address_name(value) if isinstance(value, str) else value.name
        name = last.lower() if "." in last else ENDINGS[0]  # without an ending: a folder of parts
        if not name.removesuffix(".gz").endswith(ENDINGS) or name.endswith((".parquet.gz", ".pq.gz")):
            raise ValueError(f"unknown ending; readable are {', '.join(ENDINGS)} (text files also with .gz)")
        return value

    @field_validator("encoding", mode="after")
    @classmethod
    def _encoding_is_known(cls, value: str | None) -> str | None:
        try:
            plain = bytes(range(128)).decode(value or "utf-8")
        except (LookupError, UnicodeDecodeError, ValueError) as error:
            raise ValueError(f"'{value}' is not an encoding of text, such as latin-1, cp1252 or gb18030") from error
        if plain != bytes(range(128)).decode("ascii"):
            raise ValueError(f"'{value}' does not hold ASCII as it is; write the file as UTF-8")
        return value

    @field_validator("columns", mode="after")
    @classmethod
    def _titles_are_named(cls, value: Columns, info: ValidationInfo) -> Columns:
        if info.data.get("items") is not None and value.title is None:
            raise ValueError("`items` is given, so `title` must name its column of titles")
        return value

    @field_validator("item_attributes", "user_attributes", mode="after")
    @classmethod
    def _attributes_have_their_file(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        role = "items" if info.field_name == "item_attributes" else "users"
        given = info.data.get(role) is not None
        if value and not given:
            raise ValueError(f"names columns of `{role}`, which is not set: name the file with one row per {role[:-1]}")
        if role == "users" and given and not value:
            raise ValueError("`users` is given, so `user_attributes` must name the columns to read of it")
        if role[:-1] in value:
            raise ValueError(f"an attribute may not be called '{role[:-1]}': that is the column of ids; rename it")
        if twice := sorted({name for name in value if value.count(name) > 1}):
            raise ValueError(f"names '{twice[0]}' twice")
        return value

    @field_validator("label", mode="before")
    @classmethod
    def _not_implicit(cls, value: Any) -> Any:
        if value == "implicit":
            raise ValueError(IMPLICIT)
        return value

    @field_validator("columns", mode="after")
    @classmethod
    def _adjacency_has_ids_alone(cls, value: Columns, info: ValidationInfo) -> Columns:
        if info.data.get("layout") != "adjacency":
            return value
        named = [role for role in ("rating", "timestamp", "label", "split") if getattr(value, role) is not None]
        if value.title is not None and info.data.get("items") is None:
            named.append("title")
        if named:
            raise ValueError(f"an adjacency list holds ids alone; remove {', '.join(named)}")
        return value

    @field_validator("label", mode="after")
    @classmethod
    def _label_has_its_column(cls, value: LabelRule, info: ValidationInfo) -> LabelRule:
        columns, source = info.data.get("columns"), value.source
        if source != "positives" and info.data.get("layout") == "adjacency":
            raise ValueError(f"an adjacency list is {IMPLICIT}")
        if columns is None or source == "positives" or getattr(columns, source) is not None:
            return value
        message = f"{{from: {source}}} needs columns.{source}: the file's name of that column"
        if columns.rating is None and columns.label is None:
            message += f". A file with neither ratings nor labels is {IMPLICIT}"
        raise ValueError(message)

    @field_validator("split", mode="after")
    @classmethod
    def _split_has_its_rows(cls, value: SplitRule, info: ValidationInfo) -> SplitRule:
        columns = info.data.get("columns")
        if columns is None:
            return value
        if value.by == "column" and columns.split is None:
            raise ValueError("{by: column} needs columns.split: the file's name of that column")
        if value.by in NEEDS_TIMES and columns.timestamp is None:
            is_ordered = info.data.get("file_order") == "time"
            if value.by == LAST_OUT and is_ordered:
                return value
            unless = ", or `file_order: time` where that is known" if value.by == LAST_OUT else ""
            raise ValueError(
                f"{{by: {value.by}}} needs columns.timestamp{unless}; without times only {{by: column}}, {{by: files}} "
                "and {by: random} are possible, and history follows the order of the file"
            )
        return _by_files(value, info)

    @field_validator("times", mode="after")
    @classmethod
    def _times_have_a_column(cls, value: str, info: ValidationInfo) -> str:
        columns, split = info.data.get("columns"), info.data.get("split")
        if value != "auto" and columns is not None and columns.timestamp is None:
            raise ValueError(f"'{value}' says what columns.timestamp holds, which is not set")
        if value == "relative" and split is not None and split.by == "dates":
            raise ValueError("relative times have no dates; split by quantiles, leave-last-out, column or random")
        return value

    @model_validator(mode="after")
    def _order_is_not_known_twice(self) -> FilesConfig:
        if self.file_order == "time" and self.columns.timestamp is not None:
            raise ValueError("file_order: time is for files without times; columns.timestamp gives the order here")
        return self

    def warnings(self) -> tuple[str, ...]:
        """Returns what these settings cannot rule out."""
        found = []
        if self.columns.timestamp is None:
            found.append(ORDER_IS_TIME if self.file_order == "time" else NO_TIMES)
        if self.filter is not None:
            found.append(FILTER_LOOKS_AHEAD)
        leaks = {LAST_OUT: LAST_OUT_LEAKS, "random": RANDOM_LEAKS}
        return (*found, *(text for rule, text in leaks.items() if rule == self.split.by and self.columns.timestamp))


def _by_files(value: SplitRule, info: ValidationInfo) -> SplitRule:
    """Checks that the files of a split are named where it needs them, and fills in the share of validation."""
    valid, test = (info.data.get(f"{split}_interactions") is not None for split in ("valid", "test"))
    if value.by != "files":
        if valid or test:
            name = "valid_interactions" if valid else "test_interactions"
            raise ValueError(f"{{by: {value.by}}} does not read `{name}`: use {{by: files}}, or remove it")
        return value
    if not test:
        raise ValueError("{by: files} needs test_interactions: the file with the rows of the test split")
    if not valid:
        return value.model_copy(update={"valid": value.valid or DEFAULT_SHARE, "seed": value.seed or 0})
    if value.valid is not None or value.seed is not None:
        raise ValueError("with valid_interactions nothing is drawn for validation: remove valid and seed")
    return value
