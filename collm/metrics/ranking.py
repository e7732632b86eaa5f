"""Ranking quality per user.

The paper's NDCG has no code; the definition here is the one that fits its tables (finding 4).
"""

from __future__ import annotations

import numpy as np

from collm.contracts.metric import ScoredRows
from collm.metrics.grouping import group_ties
from collm.metrics.per_user import UserValues, usable_users


def user_gains(rows: ScoredRows) -> UserValues:
    """NDCG of each user's whole list: binary gains, discount 1 / log2(1 + rank), no cut-off.

    Rows with equal scores get the value expected under a random order of them: each place of the tie gains the tie's
    mean label (scikit-learn's `ndcg_score` with `ignore_ties=False`). Users are those of uAUC: two rows, both labels.

    Args:
        rows: Checked rows.

    Returns:
        The values, in (0, 1] for usable users.
    """
    ties = group_ties(rows)
    usable, skipped = usable_users(ties)
    longest = int(ties.n_rows.max(initial=0))
    # cumulative[k] = sum of the discounts of ranks 1..k
    cumulative = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(longest) + 2.0))])
    best_rank = ties.n_rows[ties.tie_user] - ties.tie_start - ties.tie_rows  # rows above the tie
    discounts = cumulative[best_rank + ties.tie_rows] - cumulative[best_rank]
    gain = np.bincount(
        ties.tie_user, weights=discounts * ties.tie_positive / np.maximum(ties.tie_rows, 1), minlength=ties.n_users
    )
    ideal = cumulative[ties.n_positive]
    value = np.divide(gain, ideal, out=np.zeros(ties.n_users), where=usable)
    return UserValues(value=value, usable=usable, n_rows=ties.n_rows, skipped=skipped)
