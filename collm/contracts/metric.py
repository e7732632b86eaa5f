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
        score: float64, higher = more likely positive; finite. A run's scores are probabilities in [0, 1].
        logit: float64 logits of the scores; None where there are none (a mean of several models' probabilities).
    """

    user: np.ndarray[Any, Any]
    label: np.ndarray[Any, Any]
    score: np.ndarray[Any, Any]
    logit: np.ndarray[Any, Any] | None = None

    @property
    def ranking(self) -> np.ndarray[Any, Any]:
        """Returns what to rank by: the logit where there is one, because probabilities near 0 and 1 round to ties."""
        return self.score if self.logit is None else self.logit


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

    A metric whose values are limited may also have `bounds: tuple[float, float]`; intervals are cut there.

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
