"""One value per user, for metrics that average over users (facts 3 and 32)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from collm.contracts.metric import ScoredRows
from collm.metrics.grouping import Floats, Integers, UserTies, group_ties


@dataclass(frozen=True)
class UserValues:
    """A metric per user, users in increasing order.

    Attributes:
        value: float64 [n_users]; 0 where the user is not usable.
        usable: bool [n_users]: at least two rows and both labels.
        n_rows: int64 [n_users].
        skipped: Reason -> users left out for it.
    """

    value: Floats
    usable: NDArray[np.bool_]
    n_rows: Integers
    skipped: dict[str, int]


def usable_users(ties: UserTies) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Says which users have at least two rows and both labels, and counts the others by reason.

    Args:
        ties: Rows by user.

    Returns:
        bool [n_users], and reason -> count without zeros: `one-row`, `one-class` (several rows, one label).
    """
    several = ties.n_rows >= 2
    both = (ties.n_positive > 0) & (ties.n_positive < ties.n_rows)
    counts = {"one-row": int((~several).sum()), "one-class": int((several & ~both).sum())}
    return both, {reason: count for reason, count in counts.items() if count}


def user_areas(rows: ScoredRows) -> UserValues:
    """AUC of each user's rows, ties counting half.

    Args:
        rows: Checked rows.

    Returns:
        The values; equal to scikit-learn's `roc_auc_score` user by user.
    """
    ties = group_ties(rows)
    usable, skipped = usable_users(ties)
    # Mean 1-based rank of a tie's rows; doubled so that sums stay integers.
    twice_rank = 2 * ties.tie_start + ties.tie_rows + 1
    twice_sum = np.bincount(ties.tie_user, weights=twice_rank * ties.tie_positive, minlength=ties.n_users)
    n1, n0 = ties.n_positive, ties.n_rows - ties.n_positive
    wins = (twice_sum - n1 * (n1 + 1)) / 2
    value = np.divide(wins, n1 * n0, out=np.zeros(ties.n_users), where=usable)
    return UserValues(value=value, usable=usable, n_rows=ties.n_rows, skipped=skipped)


def user_gains(rows: ScoredRows, k: int | None = None) -> UserValues:
    """NDCG of each user's list: binary gains, discount 1 / log2(1 + rank), 0 behind place k.

    Rows with equal scores get the value expected under a random order of them: each place of the tie gains the tie's
    mean label (scikit-learn's `ndcg_score` with `ignore_ties=False`). Users are those of uAUC: two rows, both labels.

    Args:
        rows: Checked rows.
        k: Places that count, of the list and of the best order; None = all.

    Returns:
        The values, in (0, 1] for usable users; in [0, 1] with `k`.
    """
    ties = group_ties(rows)
    usable, skipped = usable_users(ties)
    longest = int(ties.n_rows.max(initial=0))
    # cumulative[k] = sum of the discounts of ranks 1..k
    cumulative = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(longest) + 2.0))])
    if k is not None:
        cumulative = cumulative[np.minimum(np.arange(longest + 1), k)]
    best_rank = ties.n_rows[ties.tie_user] - ties.tie_start - ties.tie_rows  # rows above the tie
    discounts = cumulative[best_rank + ties.tie_rows] - cumulative[best_rank]
    gain = np.bincount(
        ties.tie_user, weights=discounts * ties.tie_positive / np.maximum(ties.tie_rows, 1), minlength=ties.n_users
    )
    ideal = cumulative[ties.n_positive]
    value = np.divide(gain, ideal, out=np.zeros(ties.n_users), where=usable)
    return UserValues(value=value, usable=usable, n_rows=ties.n_rows, skipped=skipped)
