"""Rows sorted by user and then by the user's order, in memory of one place per row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from collm.data.dense import piece_rows, pieces

Array = np.ndarray[Any, Any]


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
    """Puts each row where its order says, where every user's orders are 0, 1, 2 ...: linear and without a sort."""
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
