"""Settings of `files`: which files, what their columns mean, what is a positive, how rows are split."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, create_model, field_validator, model_validator

from collm.component import added_field, location_field
from collm.contracts.data import RawRowsConfig

# As in `collm.ingest.times` and `collm.ingest.table_files`, which need polars: settings are checked without it.
TimeForm = Literal["auto", "day-first", "month-first", "spreadsheet-days", "days", "relative"]
ENDINGS = (
    *(".csv", ".tsv", ".txt", ".dat", ".data", ".inter", ".item", ".user", ".jsonl", ".ndjson", ".json"),
    *(".parquet", ".pq"),
)

DEFAULT_SHARE = 0.1

NO_TIMES = (
    "dataset.columns names no timestamp: history follows the order of the file, and whether a split leaks from the "
    "future cannot be known"
)
LAST_OUT_LEAKS = "dataset.split leave-last-out lets training rows of some users be later than test rows of others"
RANDOM_LEAKS = "dataset.split random puts rows into training that are later than test rows"
IMPLICIT = (
    "implicit feedback (positives only) is not read: the question is whether a user likes an item, so rows with label "
    "0 are needed too. Sample negatives by a rule of your own into a 0/1 column and use {from: label}, or use a rating "
    "with {from: rating, positive_above: ...}"
)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class Columns(_Part):
    """What the columns of the files are called."""

    user: str = Field(default="user", min_length=1, description="Column of the user id.")
    item: str = Field(default="item", min_length=1, description="Column of the item id, in both files.")
    rating: str | None = Field(default=None, min_length=1, description="Column of the rating; null = there is none.")
    timestamp: str | None = Field(
        default=None,
        min_length=1,
        description="Column of the time: seconds, milliseconds, microseconds or nanoseconds since 1970, or dates as "
        "text; null = there is none, and history follows the order of the file.",
    )
    title: str | None = Field(
        default=None, min_length=1, description="Column of the title, in `items` if given; null = items have no titles."
    )
    label: str | None = Field(
        default=None,
        min_length=1,
        description="Column of a ready label: 0/1, -1/1, yes/no, like/dislike and the like; null = none.",
    )
    split: str | None = Field(
        default=None, min_length=1, description="Column that says train, valid or test; null = there is none."
    )
    items_key: str | None = Field(
        default=None, min_length=1, description="Column of the item id in `items`; null = called as in `item`."
    )
    users_key: str | None = added_field(
        None, description="Column of the user id in `users`; null = called as in `user`."
    )

    @model_validator(mode="after")
    def _one_role_each(self) -> Columns:
        seen: dict[str, str] = {}
        for role in ("user", "item", "rating", "timestamp", "label", "split"):
            name = getattr(self, role)
            if name is not None and name in seen:
                raise ValueError(f"'{name}' is named for both {seen[name]} and {role}")
            if name is not None:
                seen[name] = role
        return self


class _LabelRule(_Part):
    """What counts as a positive."""

    positive_above: float | None = Field(
        default=None, description="With `from: rating`: a rating greater than this is label 1, any other label 0."
    )
    lowest: float | None = Field(default=None, description="Ratings below this are bad rows; null = no bound.")
    highest: float | None = Field(default=None, description="Ratings above this are bad rows; null = no bound.")
    not_rated: tuple[float, ...] | None = Field(
        default=None,
        description="Ratings that mean 'not rated', e.g. [0]: their rows are left out, with a note; null = none.",
    )

    @property
    def source(self) -> str:
        """The canonical column that the label comes from: `rating` or `label`."""
        return str(getattr(self, "from"))

    @field_validator("not_rated", mode="before")
    @classmethod
    def _is_a_list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("from", mode="before", check_fields=False)
    @classmethod
    def _is_explicit(cls, value: Any) -> Any:
        if value == "implicit":
            raise ValueError(IMPLICIT)
        return value

    @model_validator(mode="after")
    def _threshold_fits(self) -> _LabelRule:
        reads_rating = self.source == "rating"
        if reads_rating and self.positive_above is None:
            raise ValueError("{from: rating} needs positive_above, e.g. positive_above: 3 for one to five stars")
        of_ratings = (self.positive_above, self.lowest, self.highest, self.not_rated)
        if not reads_rating and any(each is not None for each in of_ratings):
            raise ValueError(
                "{from: label} takes a ready label as it is: remove positive_above, lowest, highest and not_rated"
            )
        if self.lowest is not None and self.highest is not None and self.lowest >= self.highest:
            raise ValueError(f"lowest {self.lowest} must be smaller than highest {self.highest}")
        return self


if TYPE_CHECKING:
    LabelRule = _LabelRule
else:
    # `from` is a word of Python, so this field cannot be written in a class body.
    LabelRule = create_model(
        "LabelRule",
        __base__=_LabelRule,
        __doc__=_LabelRule.__doc__,
        **{
            "from": (
                Literal["rating", "label"],
                Field(description="Canonical column: `rating` with `positive_above`, or `label` that holds 0 and 1."),
            )
        },
    )

_TAKES = {
    "quantiles": ("valid", "test"),
    "dates": ("valid_from", "test_from"),
    "leave-last-out": (),
    "column": (),
    "random": ("valid", "test", "seed"),
}
_NEEDS_TIMES = ("quantiles", "dates", "leave-last-out")


class SplitRule(_Part):
    """Which rows are for training, validation and test."""

    by: Literal["quantiles", "dates", "leave-last-out", "column", "random"] = Field(
        description="quantiles: the newest rows of all, at two moments; dates: at two UTC midnights; leave-last-out: "
        "each user's last row (leaks across users); column: `columns.split`; random: whatever the time (leaks)."
    )
    valid: float | None = Field(
        default=None, gt=0, lt=1, description="quantiles, random: share of rows in validation; 0.1 where not given."
    )
    test: float | None = Field(
        default=None, gt=0, lt=1, description="quantiles, random: share of rows in test; 0.1 where not given."
    )
    valid_from: date | None = Field(default=None, description="dates: first day of validation, UTC, YYYY-MM-DD.")
    test_from: date | None = Field(default=None, description="dates: first day of test, UTC, YYYY-MM-DD.")
    seed: int | None = Field(default=None, ge=0, description="random: decides the draw; 0 where not given.")

    @model_validator(mode="after")
    def _fields_fit(self) -> SplitRule:
        takes = _TAKES[self.by]
        other = [name for name in ("valid", "test", "valid_from", "test_from", "seed") if name not in takes]
        if given := [name for name in other if getattr(self, name) is not None]:
            raise ValueError(f"{{by: {self.by}}} takes {', '.join(takes) or 'nothing else'}; remove {', '.join(given)}")
        if self.by == "dates":
            self._check_dates()
        # Filled in here so that a resolved spec shows the numbers that are used.
        for name, value in (("valid", DEFAULT_SHARE), ("test", DEFAULT_SHARE), ("seed", 0)):
            if name in takes and getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if self.valid is not None and self.test is not None and self.valid + self.test >= 1:
            raise ValueError(f"valid {self.valid} and test {self.test} leave no rows for training")
        return self

    def _check_dates(self) -> None:
        if self.valid_from is None or self.test_from is None:
            raise ValueError("{by: dates} needs valid_from and test_from, e.g. valid_from: 2024-01-01")
        if self.valid_from >= self.test_from:
            raise ValueError(f"valid_from {self.valid_from} must be before test_from {self.test_from}")


class FilesConfig(RawRowsConfig):
    """Interactions, and titles where there are any, from your own files."""

    interactions: Path = location_field(
        ...,
        description="File with one row per interaction: .csv, .tsv, .txt, .dat, RecBole's .inter, .jsonl, .json (each "
        "also .gz) or .parquet; or a folder of such parts.",
    )
    items: Path | None = location_field(
        description="File with one row per item and its title, in the same formats; null = none."
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
    duplicates: Literal["keep-last", "keep-all", "refuse"] = Field(
        default="keep-last",
        description="Rows of the same user and item: keep-last keeps the newest (the later in the file where times are "
        "equal) and counts the others in a note; keep-all; refuse: an error.",
    )

    users: Path | None = location_field(
        description="File with one row per user and what encoders may see of them, in the same formats; null = none."
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

    @field_validator("interactions", "items", "users", mode="after")
    @classmethod
    def _readable(cls, value: Path | None) -> Path | None:
        name = value.name.lower() if value is not None and value.suffix else ENDINGS[0]  # none: a folder of parts
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

    @field_validator("label", mode="after")
    @classmethod
    def _label_has_its_column(cls, value: LabelRule, info: ValidationInfo) -> LabelRule:
        columns, source = info.data.get("columns"), value.source
        if columns is None or getattr(columns, source) is not None:
            return value
        message = f"{{from: {source}}} needs columns.{source}: the file's name of that column"
        if columns.rating is None and columns.label is None:
            message += f". A file with neither ratings nor labels is {IMPLICIT}"
        raise ValueError(message)

    @field_validator("split", mode="after")
    @classmethod
    def _split_has_its_column(cls, value: SplitRule, info: ValidationInfo) -> SplitRule:
        columns = info.data.get("columns")
        if columns is None:
            return value
        if value.by == "column" and columns.split is None:
            raise ValueError("{by: column} needs columns.split: the file's name of that column")
        if value.by in _NEEDS_TIMES and columns.timestamp is None:
            raise ValueError(
                f"{{by: {value.by}}} needs columns.timestamp; without times only {{by: column}} and {{by: random}} "
                "are possible, and history follows the order of the file"
            )
        return value

    @field_validator("times", mode="after")
    @classmethod
    def _times_have_a_column(cls, value: str, info: ValidationInfo) -> str:
        columns, split = info.data.get("columns"), info.data.get("split")
        if value != "auto" and columns is not None and columns.timestamp is None:
            raise ValueError(f"'{value}' says what columns.timestamp holds, which is not set")
        if value == "relative" and split is not None and split.by == "dates":
            raise ValueError("relative times have no dates; split by quantiles, leave-last-out, column or random")
        return value

    def warnings(self) -> tuple[str, ...]:
        """Returns what these settings cannot rule out."""
        found = [NO_TIMES] if self.columns.timestamp is None else []
        leaks = {"leave-last-out": LAST_OUT_LEAKS, "random": RANDOM_LEAKS}
        return (*found, *(text for rule, text in leaks.items() if rule == self.split.by and self.columns.timestamp))
