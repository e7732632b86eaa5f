"""Draws rows at random by whole users or other groups, until there are as many as wanted."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from collm.data.prepared import Rows

Array = np.ndarray[Any, Any]


def draw_whole_users(rows: Rows, n: int, seed: int) -> Rows:
    """Draws users at random until their rows number at least `n`.

    A smaller `n` with the same seed draws a subset of the same users.

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


def draw_within(groups: Array, n: int, seed: int) -> Array:
    """Draws n rows of each group at random, all rows of groups that have no more.

    A smaller `n` with the same seed draws a subset of the same rows.

    Args:
        groups: int64 [n_rows] group of each row.
        n: Rows of each group at most, at least 1.
        seed: Decides the draw.

    Returns:
        bool [n_rows].
    """
    rows = pl.DataFrame({"group": groups, "key": np.random.default_rng(seed).random(len(groups))})
    is_drawn: Array = rows.select(pl.col("key").rank("ordinal").over("group") <= n).to_series().to_numpy()
    return is_drawn


def draw_groups(n_rows: Array, n: int, seed: int) -> Array:
    """Draws groups, of int64 [n_groups] rows each, at random until their rows number at least `n`.

    Returns:
        bool [n_groups].
    """
    drawn = np.random.default_rng(seed).permutation(len(n_rows))
    n_groups = int(np.searchsorted(np.cumsum(n_rows[drawn]), n)) + 1
    is_drawn = np.zeros(len(n_rows), dtype=bool)
    is_drawn[drawn[:n_groups]] = True
    return is_drawn
