"""Checks of scored rows and their arrangement by user and by score. Knows no metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collm.contracts.metric import ScoredRows
from collm.errors import DataError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def check_rows(rows: ScoredRows) -> None:
    """Refuses rows that no metric can be computed on.

    Args:
        rows: The rows; none at all is fine.

    Raises:
        DataError: If lengths differ, a label is neither 0 nor 1, or a score or logit is NaN or infinite.
    """
    n_rows = len(rows.score)
    if len(rows.user) != n_rows or len(rows.label) != n_rows:
        raise DataError(
            f"scored rows: {len(rows.user)} users, {len(rows.label)} labels and {n_rows} scores; give as many of each"
        )
    if len(rows.ranking) != n_rows:
        raise DataError(f"scored rows: {n_rows} scores and {len(rows.ranking)} logits; give as many of each")
    wrong = np.flatnonzero((rows.label != 0) & (rows.label != 1))
    if wrong.size:
        raise DataError(f"scored rows: label {rows.label[wrong[0]]} in row {wrong[0]}; allowed are 0 and 1")
    unusable = np.flatnonzero(~(np.isfinite(rows.score) & np.isfinite(rows.ranking)))
    if unusable.size:
        raise DataError(
            f"scored rows: {unusable.size} of {n_rows} scores are NaN or infinite, the first "
            f"({rows.ranking[unusable[0]]}) in row {unusable[0]}; the model that made them has diverged"
        )


@dataclass(frozen=True)
class UserTies:
    """Rows sorted by (user, `ranking` ascending), cut into ties: runs of one user's rows that share a value.

    Attributes:
        n_users: Distinct users.
        n_rows: int64 [n_users] rows of each user, users in increasing order.
        n_positive: int64 [n_users] positive rows of each user.
        tie_user: int64 [n_ties] user index of each tie.
        tie_start: int64 [n_ties] place of the tie's first row within its user's rows, 0 = the lowest score.
        tie_rows: int64 [n_ties] rows of the tie.
        tie_positive: int64 [n_ties] positive rows of the tie.
    """

    n_users: int
    n_rows: Integers
    n_positive: Integers
    tie_user: Integers
    tie_start: Integers
    tie_rows: Integers
    tie_positive: Integers


def user_index(user: NDArray[Any]) -> tuple[int, Integers]:
    """Numbers users densely in increasing order.

    Args:
        user: int64 [n_rows], any values.

    Returns:
        Count of distinct users, and int64 [n_rows] index of each row's user.
    """
    distinct, index = np.unique(user, return_inverse=True)
    return len(distinct), index.astype(np.int64).reshape(-1)


def group_ties(rows: ScoredRows) -> UserTies:
    """Arranges rows by user and score; O(n log n), no loop over users.

    Args:
        rows: Checked rows.

    Returns:
        The ties of every user.
    """
    n_users, index = user_index(rows.user)
    order = np.lexsort((rows.ranking, index))
    user, score, label = index[order], rows.ranking[order], rows.label[order].astype(np.int64)
    opens_tie = np.ones(len(order), dtype=bool)
    opens_tie[1:] = (user[1:] != user[:-1]) | (score[1:] != score[:-1])
    first = np.flatnonzero(opens_tie)
    n_rows = np.bincount(index, minlength=n_users).astype(np.int64)
    user_start = np.cumsum(n_rows) - n_rows
    tie_user = user[first]
    return UserTies(
        n_users=n_users,
        n_rows=n_rows,
        n_positive=np.bincount(user, weights=label, minlength=n_users).astype(np.int64),
        tie_user=tie_user,
        tie_start=first - user_start[tie_user],
        tie_rows=np.diff(first, append=len(order)),
        tie_positive=np.add.reduceat(label, first) if len(order) else label,
    )
