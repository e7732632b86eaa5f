"""Metrics of ranked candidate lists (`evaluate.ranking`): means over users of a value per list.

A list is known by the ranks of its positives: 1 is the best of the user's candidates, no two are equal. With R
positives of which the r-th best has rank k_r, and a cut at K (k <= K counts):

- `hr@K`: 1 where any positive counts.
- `recall@K`, `precision@K`: positives that count over R, over K.
- `ndcg@K`: sum of 1 / log2(1 + k_r) over those that count, over the same sum of the ranks 1 .. min(R, K).
- `map@K`: sum of r / k_r over those that count, over R (the average precision of trec_eval).
- `mrr@K`: 1 / k_1 where it counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collm.contracts.metric import Metric, MetricValue, ScoredRows
from collm.errors import DataError
from collm.metrics.classification import weighted_ratio
from collm.metrics.grouping import Floats, check_rows
from collm_metrics.config import CutConfig, ListConfig

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Positives:
    """The positives of ranked lists, by list and rank.

    Attributes:
        list_: int64 [n_positives] number of the list, by user.
        rank: int64 [n_positives].
        place: int64 [n_positives], 1 for the best positive of a list, 2 for the next.
        n: int64 [n_lists] positives of each list, at least 1.
        k: Ranks that count.
    """

    list_: Integers
    rank: Integers
    place: Integers
    n: Integers
    k: float

    @classmethod
    def of(cls, rows: ScoredRows, k: int | None) -> Positives:
        """Finds the positives.

        Raises:
            DataError: If the rows are not ranked lists.
        """
        if rows.rank is None:
            raise DataError("the metric is one of ranked lists: put it under evaluate.ranking.metrics")
        chosen = np.flatnonzero(rows.label == 1)
        order = chosen[np.lexsort((rows.rank[chosen], rows.user[chosen]))]
        _, lists, n = np.unique(rows.user[order], return_inverse=True, return_counts=True)
        place = np.arange(len(order)) - np.repeat(np.cumsum(n) - n, n) + 1
        return cls(lists, rows.rank[order].astype(np.int64), place, n, np.inf if k is None else k)

    def sums(self, values: Floats) -> Floats:
        """Returns float64 [n_lists] sums of a value per positive over those that count."""
        weights = np.asarray(values * (self.rank <= self.k), dtype=np.float64)
        found: Floats = np.bincount(self.list_, weights=weights, minlength=len(self.n)).astype(np.float64)
        return found


def hit_rate(positives: Positives) -> Floats:
    """Returns 1 for lists with a positive that counts, float64 [n_lists]."""
    return (positives.sums(np.ones(len(positives.rank))) > 0).astype(np.float64)


def recall(positives: Positives) -> Floats:
    """Returns the share of the positives that count, float64 [n_lists]."""
    return positives.sums(np.ones(len(positives.rank))) / positives.n


def precision(positives: Positives) -> Floats:
    """Returns the positives that count over the places that count, float64 [n_lists]."""
    return positives.sums(np.ones(len(positives.rank))) / positives.k


def gain(positives: Positives) -> Floats:
    """Returns the NDCG, float64 [n_lists]."""
    best = np.minimum(positives.n, positives.k).astype(np.int64)
    cumulative = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(int(best.max(initial=0))) + 2.0))])
    found: Floats = positives.sums(1.0 / np.log2(positives.rank + 1.0)) / cumulative[best]
    return found


def average_precision(positives: Positives) -> Floats:
    """Returns the average precision, float64 [n_lists]."""
    return positives.sums(positives.place / positives.rank) / positives.n


def reciprocal_rank(positives: Positives) -> Floats:
    """Returns 1 over the rank of the best positive, float64 [n_lists]."""
    return positives.sums((positives.place == 1) / positives.rank)


class ListMean:
    """A mean over users of a value per ranked list."""

    higher_is_better = True
    unit = "users"
    bounds = (0.0, 1.0)

    def __init__(self, per_list: Callable[[Positives], Floats], k: int | None) -> None:
        """Takes the value per list and the ranks that count; None = all."""
        self._per_list, self._k = per_list, k

    def compute(self, rows: ScoredRows) -> MetricValue:
        """Returns the mean; None without a list. Raises DataError where the rows are not ranked lists."""
        check_rows(rows)
        found = Positives.of(rows, self._k)
        if not len(found.n):
            return MetricValue(None, 0, reason="no user with a positive")
        return MetricValue(float(self._per_list(found).mean()), len(found.n))

    def resample(self, rows: ScoredRows, user_weights: NDArray[Any]) -> Floats:
        """Returns the mean under each draw of users, float64 [n_resamples]."""
        check_rows(rows)
        values = self._per_list(Positives.of(rows, self._k))
        return weighted_ratio(user_weights, values, np.ones(len(values)))


class EitherWay:
    """`ndcg`: of labelled rows where it gets those, of ranked lists where the rows have ranks."""

    higher_is_better = True
    unit = "users"
    bounds = (0.0, 1.0)

    def __init__(self, rows: Metric, lists: Metric) -> None:
        """Takes both metrics."""
        self._rows, self._lists = rows, lists

    def compute(self, rows: ScoredRows) -> MetricValue:
        """Returns the value."""
        return (self._rows if rows.rank is None else self._lists).compute(rows)

    def resample(self, rows: ScoredRows, user_weights: NDArray[Any]) -> Floats:
        """Returns the value under each draw of users, float64 [n_resamples]."""
        return (self._rows if rows.rank is None else self._lists).resample(rows, user_weights)


def build_hr(config: CutConfig) -> Metric:
    """Builds `hr`."""
    return ListMean(hit_rate, config.k)


def build_recall(config: CutConfig) -> Metric:
    """Builds `recall`."""
    return ListMean(recall, config.k)


def build_precision(config: CutConfig) -> Metric:
    """Builds `precision`."""
    return ListMean(precision, config.k)


def build_map(config: ListConfig) -> Metric:
    """Builds `map`."""
    return ListMean(average_precision, config.k)


def build_mrr(config: ListConfig) -> Metric:
    """Builds `mrr`."""
    return ListMean(reciprocal_rank, config.k)
