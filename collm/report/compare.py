"""Differences between methods on the same rows: intervals, tests, corrections, what could have been seen at all."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from collm.metrics.uncertainty import percentiles

LEVEL = 0.95
POWER = 0.8
SEED = 0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """One method against another in one metric.

    Attributes:
        first: Method.
        second: The method that it is compared with.
        metric: Metric.
        value: First minus second, means over seeds.
        low: Lower end of the 95% interval: users resampled, and seeds where there are several.
        high: Upper end.
        p: Two-sided p-value that there is no difference: the value over its bootstrap standard error, as a normal
            deviate. A count of resamples beyond 0 could not go below 2 / n_resamples, too coarse for many pairs.
        p_holm: The same after Holm's correction over all comparisons in this metric.
        detectable: Difference that would be found with probability 0.8 at the 5% level, uncorrected.
    """

    first: str
    second: str
    metric: str
    value: float
    low: float
    high: float
    p: float
    p_holm: float
    detectable: float

    @property
    def significant(self) -> bool:
        """Whether the corrected p-value is under 5%."""
        return self.p_holm < 1 - LEVEL


@dataclass(frozen=True)
class Draws:
    """A method's metric on the rows and under resampled users.

    Attributes:
        values: float64 [n_seeds], one value per seed.
        resampled: float64 [n_seeds, n_resamples], column r under the r-th draw of users, the same for all methods.
        seeds: Seeds, in the order of the first axis.
    """

    values: Floats
    resampled: Floats
    seeds: tuple[int, ...]


def compare_all(draws: Mapping[str, Draws], metric: str) -> list[Difference]:
    """Compares every pair of methods.

    Args:
        draws: Method -> its draws on the same rows.
        metric: Name of the metric, for the records.

    Returns:
        One record per pair, in the order of the methods; corrected over all pairs.
    """
    pairs = list(itertools.combinations(draws, 2))
    found = [(first, second, _difference(draws[first], draws[second])) for first, second in pairs]
    usable = [(first, second, part) for first, second, part in found if part is not None]
    corrected = holm([part["p"] for _, _, part in usable])
    return [
        Difference(first=first, second=second, metric=metric, p_holm=p_holm, **part)
        for (first, second, part), p_holm in zip(usable, corrected, strict=True)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values corrected by Holm's step-down procedure (Holm 1979), in the given order."""
    order = np.argsort(p_values)
    n_tests, running = len(p_values), 0.0
    corrected = [0.0] * n_tests
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (n_tests - rank) * p_values[index]))
        corrected[index] = running
    return corrected


def relative_improvement(
    method: Mapping[str, float], baseline: Mapping[str, float], metrics: Sequence[str] = ("auc", "uauc")
) -> float | None:
    """Returns the mean over metrics of (method - baseline) / baseline, as in the paper's Table 2.

    Args:
        method: Metric -> value.
        baseline: Metric -> value.
        metrics: Metrics that are averaged.

    Returns:
        A fraction; None where a value is missing or a baseline's is 0.
    """
    if any(not method.get(name) or not baseline.get(name) for name in metrics):
        return None
    return float(np.mean([(method[name] - baseline[name]) / baseline[name] for name in metrics]))


def mean_over_seeds(draws: Draws) -> tuple[float, float, float] | None:
    """Returns the mean over seeds with the 95% interval of that mean, users being drawn.

    Returns:
        Value, low, high; None where the draws do not define the metric.
    """
    ends = percentiles(draws.resampled.mean(axis=0), level=LEVEL)
    return None if ends is None else (float(draws.values.mean()), *ends)


def _difference(first: Draws, second: Draws) -> dict[str, Any] | None:
    generator = np.random.default_rng(SEED)
    n_resamples = first.resampled.shape[1]
    picked = _draw_seeds(len(first.values), n_resamples, generator)
    # Runs of one seed share data order and initialisation of what they have in common, so they stay together.
    other = picked if first.seeds == second.seeds else _draw_seeds(len(second.values), n_resamples, generator)
    gaps = _means(first.resampled, picked) - _means(second.resampled, other)
    gaps = gaps[~np.isnan(gaps)]
    ends = percentiles(gaps, level=LEVEL)
    if ends is None:
        return None
    value, error = float(first.values.mean() - second.values.mean()), float(gaps.std())
    deviate = abs(value) / error if error > 0 else (0.0 if value == 0 else np.inf)
    return {
        "value": value,
        "low": ends[0],
        "high": ends[1],
        "p": float(2 * norm.sf(deviate)),
        "detectable": float((norm.ppf((1 + LEVEL) / 2) + norm.ppf(POWER)) * error),
    }


def _draw_seeds(n_seeds: int, n_resamples: int, generator: np.random.Generator) -> NDArray[np.int64]:
    return generator.integers(0, n_seeds, size=(n_seeds, n_resamples))


def _means(resampled: Floats, picked: NDArray[np.int64]) -> Floats:
    means: Floats = np.take_along_axis(resampled, picked, axis=0).mean(axis=0)
    return means
