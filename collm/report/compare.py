"""Differences between methods on the same rows: intervals, tests, corrections, what could have been seen at all."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from collm.metrics.uncertainty import Estimate, UserDraws, difference_interval, user_df, user_variance

LEVEL = 0.95
POWER = 0.8

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """One method against another in one metric.

    Attributes:
        first: Method.
        second: The method that it is compared with.
        metric: Metric.
        value: First minus second, means over seeds.
        low: Lower end of the 95% interval: users, and seeds where there are several.
        high: Upper end.
        p: Two-sided p-value that there is no difference (`Estimate.p_value`). NaN where a method has one seed: what
            another seed would change is then unknown, and no test can hold its level.
        p_holm: The same after Holm's correction over all comparisons in this metric; NaN where `p` is.
        detectable: Difference that would be found with probability 0.8 at the 5% level, uncorrected; NaN where `p` is.
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
        """Whether the corrected p-value is under 5%; False where there is none."""
        return self.p_holm < 1 - LEVEL


@dataclass(frozen=True)
class Draws:
    """A method's metric on the rows and under other users.

    Attributes:
        values: float64 [n_seeds], one value per seed.
        resampled: float64 [n_seeds, n_resamples], column r under the r-th draw of users, the same for all methods.
        seeds: Seeds, in the order of the first axis; empty for a method that no seed changes (a floor).
        left_out: float64 [n_seeds, n_users] with each user left out; no columns where the users are many.
        n_units: Users that the values are computed from; None = so many that their number does not matter.
    """

    values: Floats
    resampled: Floats
    seeds: tuple[int, ...]
    left_out: Floats | None = None
    n_units: int | None = None

    @classmethod
    def of(cls, values: Sequence[float], draws: Sequence[UserDraws], seeds: tuple[int, ...], n_units: int) -> Draws:
        """Puts the values and draws of a method's seeds together."""
        resampled, left_out = np.stack([each.resampled for each in draws]), np.stack([each.left_out for each in draws])
        return cls(np.asarray(values), resampled, seeds, left_out, n_units)

    @property
    def is_replicated(self) -> bool:
        """Whether it is known how much another seed changes: several seeds, or a method without any."""
        return not self.seeds or len(self.seeds) > 1


def compare_all(draws: Mapping[str, Draws], metric: str, *, widest: float = math.inf) -> list[Difference]:
    """Compares every pair of methods.

    Args:
        draws: Method -> its draws on the same rows.
        metric: Name of the metric, for the records.
        widest: Greatest difference that the metric allows (`widest_gap`); intervals are cut there.

    Returns:
        One record per pair, in the order of the methods; corrected over all pairs that have a p-value. Pairs of which
        nothing can be said, e.g. of few users who all agree, are left out.
    """
    found = [
        (first, second, _difference(draws[first], draws[second], widest))
        for first, second in itertools.combinations(draws, 2)
    ]
    usable = [(first, second, *each) for first, second, each in found if each is not None]
    p_values = [estimate.p_value() if tested else math.nan for _, _, estimate, tested, _ in usable]
    corrected = iter(holm([p for p in p_values if not math.isnan(p)]))
    return [
        Difference(
            first,
            second,
            metric,
            estimate.value,
            *ends,
            p=p,
            p_holm=next(corrected) if tested else math.nan,
            detectable=_detectable(estimate) if tested else math.nan,
        )
        for (first, second, estimate, tested, ends), p in zip(usable, p_values, strict=True)
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


def mean_over_seeds(draws: Draws) -> Estimate | None:
    """Returns the mean over seeds with its error: users, and seeds where there are several.

    Returns:
        The estimate; None where the draws do not define the metric.
    """
    return _estimate(draws.values, draws.resampled, draws.left_out, draws.n_units)


def _difference(first: Draws, second: Draws, widest: float) -> tuple[Estimate, bool, tuple[float, float]] | None:
    """Returns first minus second, whether a test of it would hold its level, and its interval."""
    n_units = min((each.n_units for each in (first, second) if each.n_units is not None), default=None)
    tested = first.is_replicated and second.is_replicated
    if sorted(first.seeds) == sorted(second.seeds) or not first.seeds or not second.seeds:
        # Runs of one seed share data order and initialisation of what they have in common, so they stay together.
        one, other = _by_seed(first), _by_seed(second)
        left_out = _gap(one.left_out, other.left_out)
        estimate = _estimate(one.values - other.values, one.resampled - other.resampled, left_out, n_units)
    else:
        estimate = _unpaired(first, second, n_units)
    ends = None if estimate is None else difference_interval(estimate, n_units, widest, LEVEL)
    return None if estimate is None or ends is None else (estimate, tested, ends)


def _estimate(values: Floats, resampled: Floats, left_out: Floats | None, n_units: int | None) -> Estimate | None:
    """Splits the error of a mean over seeds into users and seeds (crossed random effects)."""
    n_seeds = len(values)
    defined = resampled[:, ~np.isnan(resampled).any(axis=0)]
    whole = user_variance(defined.mean(axis=0), n_units)
    if whole is None:
        return None
    df = user_df(np.zeros(0) if left_out is None else left_out.mean(axis=0), n_units)
    if n_seeds == 1:
        return Estimate(float(values.mean()), whole, df)
    # What users do to all seeds alike is the covariance between seeds; the rest is in the variance of their values.
    single = np.mean([user_variance(each, n_units) or 0.0 for each in defined])
    shared = max(0.0, (n_seeds * whole - float(single)) / (n_seeds - 1))
    seeds = float(values.var(ddof=1)) / n_seeds
    return Estimate(float(values.mean()), shared, df, seeds, n_seeds - 1)


def _unpaired(first: Draws, second: Draws, n_units: int | None) -> Estimate | None:
    """Methods with other seeds: users are shared, seeds are not, so the seeds' variances add up (Welch 1947)."""
    gap = Draws(
        np.array([first.values.mean() - second.values.mean()]),
        (first.resampled.mean(axis=0) - second.resampled.mean(axis=0))[None],
        (),
        _gap(*(None if each.left_out is None else each.left_out.mean(axis=0)[None] for each in (first, second))),
    )
    whole = _estimate(gap.values, gap.resampled, gap.left_out, n_units)
    parts = [_estimate(each.values, each.resampled, each.left_out, n_units) for each in (first, second)]
    alone = [user_variance(each.resampled.mean(axis=0), n_units) for each in (first, second)]
    if whole is None or None in parts or None in alone:
        return None
    seeds = [(each.seed_variance, each.seed_df) for each in parts if each is not None]
    total = sum(variance for variance, _ in seeds)
    if total == 0:
        return whole
    # The seeds' variances hold the interaction of seeds and users already.
    interaction = sum(
        (own or 0.0) - (each.user_variance if each else 0.0) for own, each in zip(alone, parts, strict=True)
    )
    df = total**2 / sum(variance**2 / seed_df for variance, seed_df in seeds)
    return Estimate(whole.value, max(0.0, whole.user_variance - interaction), whole.user_df, total, df)


def _by_seed(draws: Draws) -> Draws:
    """Returns the draws in the order of their seeds."""
    if not draws.seeds:
        return draws
    order = np.argsort(draws.seeds, kind="stable")
    left_out = None if draws.left_out is None else draws.left_out[order]
    seeds = tuple(sorted(draws.seeds))
    return Draws(draws.values[order], draws.resampled[order], seeds, left_out, draws.n_units)


def _gap(first: Floats | None, second: Floats | None) -> Floats | None:
    return None if first is None or second is None else first - second


def _detectable(estimate: Estimate) -> float:
    return float((estimate.critical(1 - LEVEL) + ndtri(POWER)) * estimate.standard_error)
