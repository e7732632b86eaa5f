"""Dense numbers for ids of any type, and counts of them, in memory that hardly exceeds the result."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

Array = np.ndarray[Any, Any]

# What is done piece by piece takes at least this many rows at once, and at most 1/32 of all: a fixed number of pieces
# keeps work linear even where each piece costs a table of all ids, and what a piece needs stays small beside a column.
_PIECE_ROWS = 1 << 20
_MOST_PIECES = 32
# Looking ids up hashes all ids for each piece, so there are fewer of them.
_MOST_LOOKUPS = 8


def piece_rows(n_rows: int, most: int = _MOST_PIECES) -> int:
    """Returns how many of `n_rows` rows to work on at once, for at most so many pieces."""
    return max(_PIECE_ROWS, -(-n_rows // most))


def pieces(n_rows: int, most: int = _MOST_PIECES) -> Iterator[slice]:
    """Yields consecutive slices, at most so many, that cover `n_rows` rows."""
    step = piece_rows(n_rows, most)
    for first in range(0, n_rows, step):
        yield slice(first, min(first + step, n_rows))


def numbered(values: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Numbers the distinct values of a column from 1, in their own order.

    Args:
        values: Any type that sorts; no nulls.

    Returns:
        int32 [n] number of each value, and the distinct values, sorted.
    """
    name = values.name
    distinct = values.unique().sort()
    known = distinct.to_frame().with_columns(pl.int_range(1, pl.len() + 1, dtype=pl.Int32).alias("number"))
    numbers = np.empty(len(values), dtype=np.int32)
    for part in pieces(len(values), _MOST_LOOKUPS):
        found = values[part].to_frame().join(known, on=name, how="left", maintain_order="left")
        numbers[part] = found["number"].to_numpy()
    return pl.Series(name, numbers), distinct


def count_ids(ids: Array, n_ids: int, *, where: Array | None = None) -> Array:
    """Counts rows per id, in pieces, because counting widens what it counts to 8 bytes.

    Args:
        ids: Integer [n_rows], each in 0 .. n_ids - 1.
        n_ids: Length of the result.
        where: bool [n_rows] rows that count; default: all.

    Returns:
        int64 [n_ids].
    """
    counts = np.zeros(n_ids, dtype=np.int64)
    for part in pieces(len(ids)):
        counts += np.bincount(ids[part] if where is None else ids[part][where[part]], minlength=n_ids)
    return counts
