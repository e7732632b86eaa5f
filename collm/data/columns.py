"""Columns of ids and texts in little memory: dense numbers, counts, rows by user, texts that are not Python objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

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


@dataclass(frozen=True)
class UserBlock:
    """Some consecutive users with all their rows.

    Attributes:
        first: Lowest id.
        last: Highest id.
        rows: Where the block's rows lie among all rows sorted by user.
    """

    first: int
    last: int
    rows: slice


def user_blocks(counts: Array) -> Iterator[UserBlock]:
    """Divides the users into blocks of about equal work; a user is never divided.

    Args:
        counts: int64 [n_ids] rows of each user.

    Yields:
        Blocks in the order of ids, that hold every row; at most a few dozen however many rows there are.
    """
    ends = np.cumsum(counts)
    n_rows = int(ends[-1]) if len(ends) else 0
    step, first, done = piece_rows(n_rows), 0, 0
    while done < n_rows:
        last = min(int(np.searchsorted(ends, done + step)), len(ends) - 1)
        yield UserBlock(first, last, slice(done, int(ends[last])))
        first, done = last + 1, int(ends[last])


def rows_by_user(user: Array, order: Array, counts: Array) -> Array:
    """Sorts rows by user and then by the user's order.

    Args:
        user: Integer [n_rows] ids.
        order: int64 [n_rows] place of each row among its user's rows.
        counts: int64 [n_ids] rows of each user.

    Returns:
        int32 (int64 from 2^31 rows) [n_rows] places of the rows in that order.
    """
    place = _by_counting(user, order, counts)
    return _by_sorting(user, order, counts) if place is None else place


def _by_counting(user: Array, order: Array, counts: Array) -> Array | None:
    """Puts each row at the place of its order, where every user's orders are 0, 1, 2 ...: linear and without a sort."""
    first = np.cumsum(counts) - counts
    place = _empty_places(len(user))
    place.fill(-1)
    for part in pieces(len(user)):
        who, nth = user[part], order[part]
        if ((nth < 0) | (nth >= counts[who])).any():
            return None
        place[first[who] + nth] = np.arange(part.start, part.stop, dtype=place.dtype)
    return None if (place < 0).any() else place


def _by_sorting(user: Array, order: Array, counts: Array) -> Array:
    place = _empty_places(len(user))
    for block in user_blocks(counts):
        mine = np.flatnonzero((user >= block.first) & (user <= block.last))
        place[block.rows] = mine[np.lexsort((order[mine], user[mine]))]
    return place


def _empty_places(n_rows: int) -> Array:
    return np.empty(n_rows, dtype=np.int32 if n_rows <= np.iinfo(np.int32).max else np.int64)


def group_starts(*keys: Array) -> Array:
    """Returns, for rows sorted by the keys, the place of the first row of each row's group, int64 [n_rows]."""
    n = len(keys[0])
    is_first = np.zeros(n, dtype=bool)
    is_first[:1] = True
    for key in keys:
        is_first[1:] |= key[1:] != key[:-1]
    return np.maximum.accumulate(np.where(is_first, np.arange(n), 0))


class Texts(Sequence[str]):
    """A text column read like a list: 16 bytes a text and more only where it is long, instead of about 70."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, series: pl.Series) -> None:
        """Takes a text column without nulls."""
        self.series = series

    @classmethod
    def padded(cls, texts: pl.Series) -> Texts:
        """Puts the padding entry "" before the texts."""
        return cls(pl.concat([pl.Series(texts.name, [""], dtype=pl.String), texts.cast(pl.String)]).rechunk())

    def __len__(self) -> int:
        return len(self.series)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Texts: ...
    def __getitem__(self, place: int | slice) -> str | Texts:
        if isinstance(place, slice):
            return Texts(self.series[place])
        text: str = self.series[int(place)]
        return text

    def __iter__(self) -> Iterator[str]:
        return iter(self.series)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Texts):
            return bool(self.series.equals(other.series))
        return isinstance(other, Sequence) and len(self) == len(other) and self.series.to_list() == list(other)

    def __repr__(self) -> str:
        return f"Texts({len(self)}: {', '.join(map(repr, self.series.head(3)))})"


def as_series(texts: Sequence[str], name: str = "") -> pl.Series:
    """Returns a text column of any sequence; without a copy where it is one already."""
    if isinstance(texts, Texts):
        return texts.series.alias(name)
    return pl.Series(name, list(texts), dtype=pl.String)
