"""How far a metric may be from its true value: users are resampled, seeds vary, and both are put together.

Rows of one user depend on each other, so the user is the unit that is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtr, stdtrit

from collm.contracts.metric import Metric, ScoredRows
from collm.metrics.grouping import Floats, Integers

CHUNK_NUMBERS = 4_000_000  # weights held at a time: 32 MB
# Above this many users the tails of the users' influence do not change the critical value by 1%.
JACKKNIFE_USERS = 500
MANY = math.inf  # degrees of freedom at which t quantiles are those of the normal distribution
# Of users who all agree, the fewest that a sign test finds unlikely (p < 0.05): 2 / 2 ** 6.
USERS_THAT_AGREE = 6
TAIL = 0.025  # of either side of a 95% interval
SMALLEST_P = 1e-30  # smaller p-values are given as 0
# Exponent of the variances that weight the critical values of users and seeds (`Estimate`).
WEIGHT_POWER = 1.5


@dataclass(frozen=True)
class Estimate:
    """A value with what its error is made of: the users that were drawn, and the seeds that were run.

    Users and seeds are crossed random effects. The variance is that between users (of what seeds have in common) plus
    the variance of the seeds' values over their number, which holds their interaction with users too. Each part has
    its own degrees of freedom; the critical value is the mean of their t quantiles weighted by variance ** 1.5. With
    the plain variance as weight this is Cochran's (1964) approximation to the Behrens-Fisher problem, which covers 98%
    at two seeds; docs/reports.md has the simulation.

    Attributes:
        value: The value.
        user_variance: Variance from drawing users, seeds held.
        user_df: Its degrees of freedom.
        seed_variance: Variance of the mean over seeds; 0 with one seed, which says nothing of others.
        seed_df: Its degrees of freedom, at least 1.
    """

    value: float
    user_variance: float
    user_df: float
    seed_variance: float = 0.0
    seed_df: float = 1.0

    @property
    def standard_error(self) -> float:
        """Returns the square root of both variances' sum."""
        return math.sqrt(self.user_variance + self.seed_variance)

    def critical(self, p: float) -> float:
        """Returns how many standard errors a difference needs for a two-sided p-value of `p`, in (0, 1)."""
        users, seeds = self.user_variance**WEIGHT_POWER, self.seed_variance**WEIGHT_POWER
        if seeds == 0:
            return float(-stdtrit(self.user_df, p / 2))
        both = users * stdtrit(self.user_df, p / 2) + seeds * stdtrit(self.seed_df, p / 2)
        return float(-both / (users + seeds))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Returns the ends of the interval that covers the true value with probability `level`."""
        half = self.critical(1 - level) * self.standard_error
        return self.value - half, self.value + half

    def p_value(self) -> float:
        """Returns the two-sided p-value of the true value being 0; under 0.05 exactly where the interval excludes 0.

        Where all users agree, there is no variance to compare with: then it is that of the sign test, 2 / 2 ** n for n
        users, so that two or three users who happen to agree prove nothing.
        """
        if self.standard_error == 0:
            return 1.0 if self.value == 0 else min(1.0, 2 * 0.5 ** (self.user_df + 1))
        deviate = abs(self.value) / self.standard_error
        if self.seed_variance == 0:
            return float(2 * stdtr(self.user_df, -deviate))
        lowest, highest = math.log(SMALLEST_P), -1e-12
        if self.critical(math.exp(lowest)) <= deviate:
            return 0.0
        if self.critical(math.exp(highest)) >= deviate:
            return 1.0
        return math.exp(brentq(lambda log_p: self.critical(math.exp(log_p)) - deviate, lowest, highest))


@dataclass(frozen=True)
class UserDraws:
    """A metric under other users.

    Attributes:
        resampled: float64 [n_resamples] under users drawn with replacement; NaN where a draw does not define it. Empty
            where there are fewer than two users.
        left_out: float64 [n_users] with each user left out; empty where there are more than `JACKKNIFE_USERS`.
    """

    resampled: Floats
    left_out: Floats


def user_draws(metric: Metric, rows: ScoredRows, *, n_resamples: int, seed: int) -> UserDraws:
    """Computes a metric under resampled users; equal users, count and seed mean equal draws, so values can be paired.

    Args:
        metric: The metric; its `resample` is called on blocks of resamples.
        rows: The rows.
        n_resamples: Resamples.
        seed: Seed of the draws.

    Raises:
        DataError: If a score is NaN or infinite.
    """
    n_users = len(np.unique(rows.user))
    if n_users < 2 or n_resamples < 1:
        return UserDraws(np.zeros(0), np.zeros(0))
    chunks = [metric.resample(rows, weights) for weights in _weight_chunks(n_users, n_resamples, seed)]
    left_out = np.zeros(0)
    if n_users <= JACKKNIFE_USERS:
        left_out = metric.resample(rows, 1 - np.eye(n_users, dtype=np.int64))
    return UserDraws(np.concatenate(chunks), left_out)


def user_variance(resampled: Floats, n_units: int | None) -> float | None:
    """Variance of a value over samples of users: the bootstrap's, without its bias of (n - 1) / n.

    Args:
        resampled: float64 [n_resamples], NaN where a draw does not define the value.
        n_units: Users that the value is computed from; None = so many that the bias does not matter.

    Returns:
        The variance; None where there are fewer than two users, or fewer than two draws define the value.
    """
    usable = resampled[~np.isnan(resampled)]
    if usable.size < 2 or (n_units is not None and n_units < 2):
        return None
    return float(usable.var(ddof=1)) * (n_units / (n_units - 1) if n_units else 1.0)


def user_df(left_out: Floats, n_units: int | None) -> float:
    """Degrees of freedom of `user_variance`: 2 n / (kurtosis - 1) of the users' influence, at most n - 1.

    A few users with many rows carry most of the variance of an AUC, and its estimate is then less certain than n
    equal users would make it.

    Args:
        left_out: float64 [n_users], see `UserDraws`; empty where the users are many.
        n_units: Users that the value is computed from, at least 2; None = so many that quantiles are the normal's.
    """
    if n_units is None:
        return MANY
    usable = left_out[~np.isnan(left_out)]
    most = max(n_units - 1, 1)
    moved = usable - usable.mean() if usable.size else usable
    spread = float(np.mean(moved**2)) if usable.size else 0.0
    if spread == 0:
        return float(most)
    # Users that the metric does not use have no influence and are not counted.
    kurtosis = float(np.sum(moved**4)) / n_units / (float(np.sum(moved**2)) / n_units) ** 2
    return float(min(max(2 * n_units / max(kurtosis - 1, 1e-9), 1), most))


def interval(
    metric: Metric, rows: ScoredRows, *, n_resamples: int, seed: int, level: float = 0.95
) -> tuple[float, float] | None:
    """Interval of a metric over users: t quantiles times the bootstrap's standard error.

    Args:
        metric: The metric.
        rows: The rows.
        n_resamples: Resamples; 0 gives None.
        seed: Seed of the draws.
        level: Probability to cover the true value, in (0, 1).

    Returns:
        Low and high end, cut at the metric's `bounds`; None where there are fewer than two users (nothing could vary),
        fewer than `USERS_THAT_AGREE` who all have one value, or the metric is not defined.

    Raises:
        DataError: If a score is NaN or infinite.
    """
    computed = metric.compute(rows)
    draws = user_draws(metric, rows, n_resamples=n_resamples, seed=seed)
    n_units = count_units(metric, rows, computed.n)
    variance = user_variance(draws.resampled, n_units)
    if computed.value is None or variance is None:
        return None
    return value_interval(metric, Estimate(computed.value, variance, user_df(draws.left_out, n_units)), n_units, level)


def paired_difference(
    metric: Metric, first: ScoredRows, second: ScoredRows, *, n_resamples: int, seed: int
) -> tuple[float, float, float] | None:
    """Compares two scores of the same rows under the same resampled users.

    Args:
        metric: The metric.
        first: The rows with one score.
        second: The same rows with another.
        n_resamples: Bootstrap resamples.
        seed: Seed of the bootstrap.

    Returns:
        First minus second with the ends of its 95% interval; None where either is not defined, or users are too few.
    """
    values = [metric.compute(rows) for rows in (first, second)]
    if values[0].value is None or values[1].value is None:
        return None
    draws = [user_draws(metric, rows, n_resamples=n_resamples, seed=seed) for rows in (first, second)]
    n_units = min(count_units(metric, rows, each.n) for rows, each in zip((first, second), values, strict=True))
    variance = user_variance(draws[0].resampled - draws[1].resampled, n_units)
    if variance is None:
        return None
    gap = float(values[0].value - values[1].value)
    estimate = Estimate(gap, variance, user_df(draws[0].left_out - draws[1].left_out, n_units))
    ends = difference_interval(estimate, n_units, widest_gap(metric))
    return None if ends is None else (gap, *ends)


def count_units(metric: Metric, rows: ScoredRows, n: int) -> int:
    """Returns the users that a value rests on: those it averages over, or all of them where it averages over rows."""
    return n if metric.unit == "users" else len(np.unique(rows.user))


def value_interval(metric: Metric, estimate: Estimate, n_units: int, level: float = 0.95) -> tuple[float, float] | None:
    """Returns the interval of a metric's value, cut at its `bounds`; None where too few users agree to tell.

    Args:
        metric: The metric.
        estimate: Its value with its error.
        n_units: Users that the value rests on.
        level: Probability to cover the true value, in (0, 1).
    """
    # A few users who agree by chance would give an interval without width; at a bound it is known what they exclude.
    at_bound = estimate.value in getattr(metric, "bounds", ())
    if estimate.standard_error == 0 and n_units < USERS_THAT_AGREE and not at_bound:
        return None
    return within_bounds(metric, estimate.interval(level), n_units)


def difference_interval(
    estimate: Estimate, n_units: int | None, widest: float, level: float = 0.95
) -> tuple[float, float] | None:
    """Returns the interval of a difference, cut at the widest that there can be; None where too few users agree.

    Args:
        estimate: The difference with its error.
        n_units: Users that it rests on; None = many.
        widest: `widest_gap` of the metric.
        level: Probability to cover the true difference, in (0, 1).
    """
    if estimate.standard_error == 0 and n_units is not None and n_units < USERS_THAT_AGREE:
        return None
    low, high = estimate.interval(level)
    return max(low, -widest), min(high, widest)


def widest_gap(metric: Metric) -> float:
    """Returns the greatest difference of two values of a metric; infinite where it states no `bounds`."""
    lowest, highest = getattr(metric, "bounds", (-math.inf, math.inf))
    return float(highest - lowest)


def within_bounds(metric: Metric, ends: tuple[float, float], n_units: int) -> tuple[float, float]:
    """Returns the ends of a 95% interval cut at the values that the metric can take, where it states them.

    Where all users have the least or the greatest value (no one has a hit), their variance says nothing of the others:
    of n users without a hit, up to 1 - 0.025 ** (1 / n) of all users may have one (Clopper and Pearson 1934), and the
    mean of a metric with values from 0 to 1 is at most that.

    Args:
        metric: The metric.
        ends: Low and high end.
        n_units: Users that the value rests on, at least 1.
    """
    lowest, highest = getattr(metric, "bounds", (-math.inf, math.inf))
    low, high = max(ends[0], lowest), min(ends[1], highest)
    if low == high and low in (lowest, highest) and math.isfinite(highest - lowest):
        reach = (1 - (TAIL ** (1 / n_units))) * (highest - lowest)
        return (low, low + reach) if low == lowest else (high - reach, high)
    return low, high


def _weight_chunks(n_users: int, n_resamples: int, seed: int) -> Iterator[Integers]:
    """Yields the draws in blocks of bounded memory; the block size is part of the definition of the draws."""
    generator = np.random.default_rng(seed)
    step = max(1, CHUNK_NUMBERS // max(n_users, 1))
    for start in range(0, n_resamples, step):
        size = min(step, n_resamples - start)
        drawn = generator.integers(0, n_users, size=(size, n_users)) if n_users else np.zeros((size, 0), dtype=np.int64)
        cell = drawn + np.arange(size)[:, None] * n_users
        yield np.bincount(cell.ravel(), minlength=size * n_users).reshape(size, n_users).astype(np.int64)
