"""The published pickles -> one table whose histories are the published ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl

from collm.component import BuildContext
from collm.contracts.data import PUBLISHED_SELECTION, SPLITS, InteractionTable
from collm.data.table import Recipe, build_table
from collm.errors import DataError
from collm.ingest.restricted_pickle import PickledFrame, read_frame
from collm.ingest.source_files import SourceFiles
from collm_released.config import ReleasedConfig

FILES: dict[str, str] = {name: f"{name}_ood2.pkl" for name in SPLITS}
SMALL_FILE = "valid_small_ood2.pkl"
NUMBERS = {"uid": "user", "iid": "item", "label": "label", "timestamp": "timestamp"}
COLUMNS = (*NUMBERS, "his", "title", "flag", "not_cold")

COUNTS = {"train": 33_891, "valid": 10_401, "test": 7_331, "users": 838, "items": 3_255}
SMALL_VALID = 5_200
TIE_RULE = "rows of one user in the same second keep the published order (that of the longest published history)"
SMALL_NOTE = "validation rows are those of the published valid_small file (a random half, fact 27)"


class ReleasedSource:
    """The published split."""

    def __init__(self, config: ReleasedConfig) -> None:
        """Takes the settings; files are looked for when they are read."""
        self._config = config

    def content_hash(self) -> str:
        """Returns a digest of the pickles' bytes."""
        return self._files().content_hash()

    def look(self) -> None:
        """Looks for the files.

        Raises:
            DataError: If one is missing.
        """
        self._files()

    def load(self) -> InteractionTable:
        """Reads the pickles with the restricted unpickler and restores the published order."""
        files = self._files()
        parts = {name: _read(files, file) for name, file in FILES.items()}
        raw = _with_published_order(pl.concat([_rows(frame, name) for name, frame in parts.items()]))
        titles = pl.concat([_titles(frame) for frame in parts.values()]).unique(
            "item", keep="first", maintain_order=True
        )
        notes: tuple[str, ...] = ()
        if files.has(SMALL_FILE):
            small = pl.Series(_read(files, SMALL_FILE).index.astype(np.int64))
            is_small = (pl.col("split") == "valid") & pl.col("row").is_in(small.implode())
            raw = raw.with_columns(is_small.fill_null(False).alias(PUBLISHED_SELECTION))
        if self._config.validation == "published-small":
            outside = (pl.col("split") == "valid") & ~pl.col(PUBLISHED_SELECTION)
            raw = raw.with_columns(pl.when(outside).then(None).otherwise(pl.col("split")).alias("split"))
            notes = (SMALL_NOTE,)
        return build_table(raw, titles, Recipe(tie_rule=TIE_RULE, notes=notes, expected=self._expected()))

    def _files(self) -> SourceFiles:
        small = (SMALL_FILE,) if self._config.validation == "published-small" else ()
        return SourceFiles(
            self._config.path, (*FILES.values(), *small), owner=self._config.name, optional=(SMALL_FILE,)
        )

    def _expected(self) -> dict[str, int]:
        if self._config.edition == "unchecked":
            return {}
        return {**COUNTS, "valid": COUNTS["valid"] if self._config.validation == "full" else SMALL_VALID}


def build(config: ReleasedConfig, *, context: BuildContext) -> ReleasedSource:  # noqa: ARG001 - the factory contract
    """Builds `collm-released`."""
    return ReleasedSource(config)


def published_history(values: Iterable[Any], *, file: str) -> list[list[int]]:
    """Reads a `his` column.

    Args:
        values: One list of item ids per row; the first is the padding 0 (fact 10).
        file: File name for messages.

    Returns:
        One list of item ids per row, without the leading 0.

    Raises:
        DataError: If a value is not such a list.
    """
    histories = []
    for place, value in enumerate(values):
        if not isinstance(value, list) or not value or value[0] != 0 or not all(type(item) is int for item in value):
            raise DataError(f"{file}: row {place}: his is not a list of item ids that starts with 0")
        histories.append(value[1:])
    return histories


def _read(files: SourceFiles, file: str) -> PickledFrame:
    frame = read_frame(files.read(file), name=file)
    if missing := [name for name in COLUMNS if name not in frame.columns]:
        raise DataError(f"{file}: column '{missing[0]}' is missing; found {', '.join(frame.columns)}")
    for name in NUMBERS:
        if frame.columns[name].dtype.kind != "i":
            raise DataError(f"{file}: column '{name}' holds {frame.columns[name].dtype}, expected whole numbers")
    return frame


def _rows(frame: PickledFrame, split: str) -> pl.DataFrame:
    file = FILES[split]
    columns = {new: np.ascontiguousarray(frame.columns[old]).astype(np.int64) for old, new in NUMBERS.items()}
    histories = published_history(frame.columns["his"], file=file)
    return pl.DataFrame(columns).with_columns(
        pl.lit(None, dtype=pl.Float32).alias("rating"),
        pl.lit(split).alias("split"),
        # The row labels number the rows of all three files together, in the order that histories were built in.
        pl.Series("row", frame.index.astype(np.int64)),
        pl.Series("n_history", [len(history) for history in histories], dtype=pl.Int64),
        pl.Series("his", histories, dtype=pl.List(pl.Int64)),
        pl.Series("published_flag", np.ascontiguousarray(frame.columns["flag"]).astype(np.float32)),
        pl.Series("published_not_cold", np.ascontiguousarray(frame.columns["not_cold"]).astype(np.int8)),
    )


def _titles(frame: PickledFrame) -> pl.DataFrame:
    titles = [title if isinstance(title, str) else None for title in frame.columns["title"].tolist()]
    return pl.DataFrame(
        {
            "item": np.ascontiguousarray(frame.columns["iid"]).astype(np.int64),
            "title": pl.Series(titles, dtype=pl.String),
        }
    )


def _with_published_order(raw: pl.DataFrame) -> pl.DataFrame:
    """Adds `order` from the published histories and checks that they fit together.

    A row with k earlier positives comes after the k-th positive and before or at the next one; rows with the same k
    keep the order of their row labels, the positive among them last. A user's longest history then names that user's
    positives in order.

    Raises:
        DataError: If a history is not a beginning of its user's longest one, or contradicts the positive rows.
    """
    place = raw.select(pl.arg_sort_by("user", "n_history", "label", "row")).to_series()
    order = pl.int_range(pl.len(), dtype=pl.Int64).over("user").alias("order")
    ordered = raw[place].with_columns(order)
    before = (pl.col("label").cum_sum() - pl.col("label")).over("user")
    wrong = ordered.filter(before != pl.col("n_history"))
    # [user, item of the k-th positive] as a list per user; each history must be its first n_history entries.
    positives = ordered.filter(pl.col("label") == 1).group_by("user").agg(pl.col("item").alias("positives"))
    joined = ordered.join(positives, on="user", how="left")
    differs = pl.col("positives").list.head(pl.col("n_history")) != pl.col("his")
    wrong = pl.concat([wrong["row"], joined.filter((pl.col("n_history") > 0) & differs)["row"]])
    if len(wrong):
        raise DataError(
            f"row {wrong[0]} (and {len(wrong) - 1} more): the published history does not fit the rows of its user; "
            "train, valid and test must come from one release"
        )
    return ordered.drop("his", "n_history")
