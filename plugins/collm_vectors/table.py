"""Vectors by dense id: the file's rows put in the order of the data, with the mean where the file has none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from collm.data.columns import as_series
from collm.errors import DataError
from collm_vectors.files import VectorFile, read_header, read_ids, read_values

Array = np.ndarray[Any, Any]
_ROWS_AT_ONCE = 65_536
_SHOWN = 3


@dataclass(frozen=True)
class VectorTable:
    """One side's vectors.

    Attributes:
        values: float32 [n_ids + 1, width]; row = dense id. Row 0 (padding, unknown ids) and the rows of ids that the
            file lacks are the mean of the file's vectors.
        n_missing: Ids of the data that the file lacks.
        n_ids: Ids of the data.
        n_unused: Ids of the file that the data lacks.
        n_rows: Vectors in the file.
        n_zero: Rows of `values` of length 0.
    """

    values: Array
    n_missing: int
    n_ids: int
    n_unused: int
    n_rows: int
    n_zero: int

    @property
    def width(self) -> int:
        """Numbers per vector."""
        return int(self.values.shape[1])

    @property
    def longest(self) -> float:
        """Length of the longest vector."""
        return float(np.sqrt(np.square(self.values, dtype=np.float64).sum(axis=1).max()))

    def facts(self) -> dict[str, int]:
        """Returns what results say of it."""
        return {
            "width": self.width,
            "in_file": self.n_rows,
            "in_data": self.n_ids,
            "without_vector": self.n_missing,
            "not_in_data": self.n_unused,
        }


def read_table(file: VectorFile, raw_ids: Sequence[str]) -> VectorTable:
    """Reads a file's vectors into the order of dense ids.

    Args:
        file: The file.
        raw_ids: Raw ids by dense id, index 0 = "".

    Raises:
        DataError: If ids or vectors cannot be used, or the data has none of the ids.
    """
    header = read_header(file)
    ids = read_ids(file, header)
    values = read_values(file, header)
    mean = _checked_mean(file, values, ids)
    known = as_series(raw_ids).slice(1).alias("id").to_frame()
    rows = ids.alias("id").to_frame().with_row_index("row")
    place = known.join(rows, on="id", how="left", maintain_order="left")["row"]
    has = place.is_not_null().to_numpy()
    n_found = int(has.sum())
    if not n_found:
        raise DataError(_no_match(file, ids, known["id"]))
    table = np.tile(mean, (len(known) + 1, 1))
    table[1:][has] = values[place.drop_nulls().to_numpy()]
    return VectorTable(
        values=table,
        n_missing=len(known) - n_found,
        n_ids=len(known),
        n_unused=len(ids) - n_found,
        n_rows=len(ids),
        n_zero=int((~table.any(axis=1)).sum()),
    )


def _checked_mean(file: VectorFile, values: Array, ids: pl.Series) -> Array:
    """Returns the mean vector, float32 [width], after looking at every number; a part of the file is held at once."""
    total = np.zeros(values.shape[1], dtype=np.float64)
    for start in range(0, len(values), _ROWS_AT_ONCE):
        with np.errstate(over="ignore"):
            part = np.asarray(values[start : start + _ROWS_AT_ONCE]).astype(np.float32)
        bad = np.flatnonzero(~np.isfinite(part).all(axis=1))
        if len(bad):
            shown = ", ".join(repr(ids[int(start + row)]) for row in bad[:_SHOWN])
            raise DataError(
                f"{file.path}: NaN, infinite or beyond the range of float32 in vectors of {file.side}s {shown} "
                f"({len(bad):,} among rows {start + 1:,} to {start + len(part):,}); leave such ids out of the file, "
                "and the mean vector stands for them"
            )
        total += part.sum(axis=0, dtype=np.float64)
    return (total / len(values)).astype(np.float32)


def _no_match(file: VectorFile, ids: pl.Series, known: pl.Series) -> str:
    of_file, of_data = (", ".join(repr(each) for each in series.head(_SHOWN)) for series in (ids, known))
    return (
        f"{file.path if file.ids is None else file.ids}: the data has none of its {len(ids):,} {file.side} ids: the "
        f"file has {of_file}, the data {of_data}; bring them into one form (raw ids, as in the dataset's files)"
    )
