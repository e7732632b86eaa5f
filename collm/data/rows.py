"""Interactions as arrays, and drawing whole users of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Rows:
    """Interactions as arrays, each [n_rows].

    Attributes:
        user: int64 dense ids.
        item: int64 dense ids.
        label: int8.
        timestamp: int64 seconds since 1970 UTC.
        row: int64 source rows.
        index: int64 positions in the prepared table.
    """

    user: Array
    item: Array
    label: Array
    timestamp: Array
    row: Array
    index: Array

    def __len__(self) -> int:
        return len(self.user)

    def take(self, positions: Array) -> Rows:
        """Returns the rows at these positions (int [n], or bool [n_rows])."""
        return Rows(*(getattr(self, name)[positions] for name in self.__dataclass_fields__))


def draw_whole_users(rows: Rows, n: int, seed: int) -> Rows:
    """Draws users at random until their rows number at least `n`.

    A smaller `n` with the same seed draws a subset of the same users.

    Args:
        rows: Where to draw from.
        n: Rows wanted, at least 1; the last user drawn may go beyond it.
        seed: Decides the draw.

    Returns:
        All rows of the drawn users, in their order; `rows` itself where it holds `n` rows or fewer.
    """
    return draw_whole_groups(rows, rows.user, n, seed)


def draw_whole_groups(rows: Rows, groups: Array, n: int, seed: int) -> Rows:
    """Draws groups of rows at random until their rows number at least `n`.

    A smaller `n` with the same seed draws a subset of the same groups.

    Args:
        rows: Where to draw from.
        groups: int64 [n_rows] group of each row.
        n: Rows wanted, at least 1; the last group drawn may go beyond it.
        seed: Decides the draw.

    Returns:
        All rows of the drawn groups, in their order; `rows` itself where it holds `n` rows or fewer.
    """
    if n >= len(rows):
        return rows
    _, which, n_rows = np.unique(groups, return_inverse=True, return_counts=True)
    return rows.take(draw_groups(n_rows, n, seed)[which])


def draw_groups(n_rows: Array, n: int, seed: int) -> Array:
    """Draws groups at random until their rows number at least `n`.

    Args:
        n_rows: int64 [n_groups] rows of each group, each at least 1.
        n: Rows wanted, at least 1.
        seed: Decides the draw.

    Returns:
        bool [n_groups].
    """
    drawn = np.random.default_rng(seed).permutation(len(n_rows))
    n_groups = int(np.searchsorted(np.cumsum(n_rows[drawn]), n)) + 1
    is_drawn = np.zeros(len(n_rows), dtype=bool)
    is_drawn[drawn[:n_groups]] = True
    return is_drawn
