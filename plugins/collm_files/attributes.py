"""Further columns of an items or users file: what encoders may see beside ids and titles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import polars as pl

from collm.ingest.bad_rows import BadRows
from collm_files.rows import ATTRIBUTE, read_columns


def read_attributes(
    path: Path, names: Sequence[str], *, side: Literal["user", "item"], key: str, encoding: str | None = None
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Reads attributes, one row per id: of rows with the same id the first is kept.

    A column of text in which every value is a number becomes numbers, whole ones where all are.

    Args:
        path: The file.
        names: Its columns.
        side: Whose attributes they are.
        key: Its column of ids.
        encoding: Of lines that are not UTF-8.

    Returns:
        The column `user` or `item` and the attributes under the file's names, null where empty; and notes.

    Raises:
        DataError: If the file cannot be read or lacks a column.
    """
    bad = BadRows()
    columns = {f"{ATTRIBUTE}{name}": name for name in names}
    frame = read_columns(path, {side: key, **columns}, required=(side,), bad=bad, encoding=encoding)
    rows = frame.select(side, *(pl.col(ours).alias(name) for ours, name in columns.items()))
    first = rows.unique(side, keep="first", maintain_order=True)
    n_more = rows.unique().height - first.height
    notes = (
        [f"{n_more:,} further rows of {path.name} with other attributes of the same {side} are not used"]
        if n_more
        else []
    )
    if len(bad):
        reasons = ", ".join(f"{reason}: {n:,}" for reason, n in bad.counts().items())
        notes.append(f"{len(bad):,} rows of {path.name} give no attributes ({reasons})")
    return first.with_columns(_numbers(first[name]) for name in names), tuple(notes)


def _numbers(values: pl.Series) -> pl.Series:
    if values.dtype != pl.String or values.null_count() == len(values):
        return values
    for dtype in (pl.Int64, pl.Float64):
        cast = values.cast(dtype, strict=False)
        if cast.null_count() == values.null_count():
            return cast.fill_nan(None) if dtype == pl.Float64 else cast
    return values
