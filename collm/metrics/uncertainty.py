"""Intervals by resampling users: rows of one user depend on each other, so the user is the unit that is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collm.contracts.metric import Metric, ScoredRows
from collm.metrics.grouping import Floats, Integers

CHUNK_NUMBERS = 4_000_000  # weights held at a time: 32 MB


def user_bootstrap_weights(user: NDArray[Any], n_resamples: int, seed: int) -> Integers:
    """Draws users with replacement, as many as there are.

    Args:
        user: int64 [n_rows] user of each row.
        n_resamples: Resamples.
        seed: Seed; the same users, count and seed give the same draws.

    Returns:
        int64 [n_resamples, n_users] how often each user was drawn, users in increasing order; rows sum to n_users.
    """
    chunks = list(_weight_chunks(len(np.unique(user)), n_resamples, seed))
    return np.concatenate(chunks) if chunks else np.zeros((0, len(np.unique(user))), dtype=np.int64)


def interval(
    metric: Metric, rows: ScoredRows, *, n_resamples: int, seed: int, level: float = 0.95
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of a metric, users being drawn.

    Args:
        metric: The metric; its `resample` is called on blocks of resamples.
        rows: The rows.
        n_resamples: Resamples; 0 gives None.
        seed: Seed of the draws.
        level: Share of resamples inside the interval, in (0, 1).

    Returns:
        Low and high end over the resamples in which the metric is defined; None where there are fewer than two users
        (nothing could vary) or no resample defines it.

    Raises:
        DataError: If a score is NaN or infinite.
    """
    return percentiles(resampled_values(metric, rows, n_resamples=n_resamples, seed=seed), level=level)


def resampled_values(metric: Metric, rows: ScoredRows, *, n_resamples: int, seed: int) -> Floats:
    """Returns a metric under resampled users; equal users, count and seed mean equal draws, so values can be paired.

    Args:
        metric: The metric.
        rows: The rows.
        n_resamples: Resamples.
        seed: Seed of the draws.

    Returns:
        float64 [n_resamples], NaN where a resample does not define the metric; empty where there are fewer than two
        users.
    """
    n_users = len(np.unique(rows.user))
    if n_users < 2 or n_resamples < 1:
        return np.zeros(0)
    return np.concatenate([metric.resample(rows, weights) for weights in _weight_chunks(n_users, n_resamples, seed)])


def percentiles(values: Floats, *, level: float = 0.95) -> tuple[float, float] | None:
    """Returns the ends that hold the share `level` of the values that are not NaN; None where all are."""
    usable = values[~np.isnan(values)]
    if usable.size == 0:
        return None
    low, high = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _weight_chunks(n_users: int, n_resamples: int, seed: int) -> Iterator[Integers]:
    """Yields the draws in blocks of bounded memory; the block size is part of the definition of the draws."""
    generator = np.random.default_rng(seed)
    step = max(1, CHUNK_NUMBERS // max(n_users, 1))
    for start in range(0, n_resamples, step):
        size = min(step, n_resamples - start)
        drawn = generator.integers(0, n_users, size=(size, n_users)) if n_users else np.zeros((size, 0), dtype=np.int64)
        cell = drawn + np.arange(size)[:, None] * n_users
        yield np.bincount(cell.ravel(), minlength=size * n_users).reshape(size, n_users).astype(np.int64)
