"""The metric classes: values and resampling from `collm.metrics`, reasons where there is no value."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collm.contracts.metric import Metric, MetricConfig, MetricValue, ScoredRows
from collm.metrics.classification import (
    area_under_curve,
    area_under_curve_resampled,
    check_probabilities,
    log_losses,
    row_mean_resampled,
    weighted_ratio,
)
from collm.metrics.grouping import Floats, check_rows
from collm.metrics.per_user import UserValues, user_areas, user_gains
from collm_metrics.config import NdcgConfig
from collm_metrics.lists import EitherWay, ListMean, gain


class AreaUnderCurve:
    """`auc`: over all rows together."""

    higher_is_better = True
    unit = "rows"
    bounds = (0.0, 1.0)

    def compute(self, rows: ScoredRows) -> MetricValue:
        """Returns the AUC; None where a class is missing. Raises DataError on NaN."""
        check_rows(rows)
        n_rows, n_positive = len(rows.label), int((rows.label == 1).sum())
        if n_rows == 0:
            return MetricValue(None, 0, reason="no rows")
        if n_positive in (0, n_rows):
            reason = f"only one class: {n_positive} positive and {n_rows - n_positive} negative rows"
            return MetricValue(None, 0, {"one-class": n_rows}, reason)
        return MetricValue(area_under_curve(rows.label, rows.ranking), n_rows)

    def resample(self, rows: ScoredRows, user_weights: NDArray[Any]) -> Floats:
        """Returns the AUC under each draw of users, float64 [n_resamples]."""
        check_rows(rows)
        return area_under_curve_resampled(rows, user_weights)


class UserMean:
    """`uauc`, `gauc`, `ndcg`: a mean over the users that have two rows and both labels (fact 32)."""

    higher_is_better = True
    unit = "users"
    bounds = (0.0, 1.0)

    def __init__(self, per_user: Callable[[ScoredRows], UserValues], *, by_rows: bool = False) -> None:
        """Takes the value per user, and whether a user counts once or once per row."""
        self._per_user = per_user
        self._by_rows = by_rows

    def compute(self, rows: ScoredRows) -> MetricValue:
        """Returns the mean; None where no user is usable. Raises DataError on NaN."""
        check_rows(rows)
        users = self._per_user(rows)
        n_usable = int(users.usable.sum())
        if n_usable == 0:
            reason = "no rows" if len(rows.label) == 0 else "no user has two rows and both labels"
            return MetricValue(None, 0, users.skipped, reason)
        share = self._shares(users)
        return MetricValue(float(share @ users.value / share.sum()), n_usable, users.skipped)

    def resample(self, rows: ScoredRows, user_weights: NDArray[Any]) -> Floats:
        """Returns the mean under each draw of users, float64 [n_resamples]."""
        check_rows(rows)
        users = self._per_user(rows)
        share = self._shares(users)
        return weighted_ratio(user_weights, share * users.value, share)

    def _shares(self, users: UserValues) -> Floats:
        usable = users.usable.astype(np.float64)
        return usable * users.n_rows if self._by_rows else usable


class RowMean:
    """`logloss`, `accuracy`: a mean over rows; scores must be probabilities."""

    unit = "rows"

    def __init__(self, per_row: Callable[[NDArray[Any], NDArray[Any]], Floats], *, higher_is_better: bool) -> None:
        """Takes the value per row from labels and scores, and the direction: shares are better high, losses low."""
        self._per_row = per_row
        self.higher_is_better = higher_is_better
        self.bounds = (0.0, 1.0) if higher_is_better else (0.0, math.inf)

    def compute(self, rows: ScoredRows) -> MetricValue:
        """Returns the mean; None without rows. Raises DataError on NaN and outside [0, 1]."""
        check_rows(rows)
        if len(rows.label) == 0:
            return MetricValue(None, 0, reason="no rows")
        return MetricValue(float(self._per_row(rows.label, rows.score).mean()), len(rows.label))

    def resample(self, rows: ScoredRows, user_weights: NDArray[Any]) -> Floats:
        """Returns the mean under each draw of users, float64 [n_resamples]."""
        check_rows(rows)
        return row_mean_resampled(rows, self._per_row(rows.label, rows.score), user_weights)


def correct_side(label: NDArray[Any], score: NDArray[Any]) -> Floats:
    """Says of each row whether its score is on the label's side of 0.5 (0.5 itself counts as positive).

    Args:
        label: [n_rows] of 0 and 1.
        score: float64 [n_rows] in [0, 1].

    Returns:
        float64 [n_rows] of 0 and 1.

    Raises:
        DataError: If a score lies outside [0, 1].
    """
    check_probabilities(score)
    return np.asarray((score >= 0.5) == (label == 1), dtype=np.float64)


def build_auc(config: MetricConfig) -> Metric:
    """Builds `auc`."""
    del config
    return AreaUnderCurve()


def build_uauc(config: MetricConfig) -> Metric:
    """Builds `uauc`."""
    del config
    return UserMean(user_areas)


def build_gauc(config: MetricConfig) -> Metric:
    """Builds `gauc`."""
    del config
    return UserMean(user_areas, by_rows=True)


def build_ndcg(config: NdcgConfig) -> Metric:
    """Builds `ndcg`."""
    return EitherWay(UserMean(functools.partial(user_gains, k=config.k)), ListMean(gain, config.k))


def build_logloss(config: MetricConfig) -> Metric:
    """Builds `logloss`."""
    del config
    return RowMean(log_losses, higher_is_better=False)


def build_accuracy(config: MetricConfig) -> Metric:
    """Builds `accuracy`."""
    del config
    return RowMean(correct_side, higher_is_better=True)
