"""Contract of a metric: a value with what it was computed from and what it had to leave out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from collm.component import ComponentConfig

if TYPE_CHECKING:
    import numpy as np


class MetricConfig(ComponentConfig):
    """Base of metric settings."""


@dataclass(frozen=True)
class ScoredRows:
    """Rows with labels and scores, each array of length n_rows.

    Attributes:
        user: int64 user ids (any values; rows of one user share one).
        label: int8, 0 or 1.
        score: float64, higher = more likely positive; finite.
    """

    user: np.ndarray[Any, Any]
    label: np.ndarray[Any, Any]
    score: np.ndarray[Any, Any]


@dataclass(frozen=True)
class MetricValue:
    """One metric on one slice.

    Attributes:
        value: None where no row or user could be used.
        n: Rows or users (the metric's own unit) that the value averages over.
        skipped: Reason -> how many were left out for it, e.g. {"one-class": 96}.
        reason: Why `value` is None; empty otherwise.
    """

    value: float | None
    n: int
    skipped: Mapping[str, int] = field(default_factory=dict)
    reason: str = ""


class Metric(Protocol):
    """What a metric factory returns. Factory: `build(config) -> Metric`.

    Attributes:
        higher_is_better: Direction.
        unit: What `n` counts: `rows` or `users`.
    """

    higher_is_better: bool
    unit: str

    def compute(self, rows: ScoredRows) -> MetricValue:
        """Returns the value on these rows.

        Raises:
            DataError: If a score is NaN or infinite.
        """
        ...

    def resample(self, rows: ScoredRows, user_weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Returns the metric under resampled users.

        Args:
            rows: The rows.
            user_weights: int [n_resamples, n_users] how often each user was drawn; column j is the j-th smallest
                distinct value of `rows.user`.

        Returns:
            float64 [n_resamples]; NaN where a resample has no usable row or user.
        """
        ...
