"""Metrics over all rows together: area under the ROC curve and per-row losses, also under resampled users."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from collm.contracts.metric import ScoredRows
from collm.errors import DataError
from collm.metrics.grouping import Floats, user_index

CHUNK_NUMBERS = 2_000_000  # numbers per temporary array: 16 MB each, however many rows and resamples there are


def area_under_curve(label: NDArray[Any], score: NDArray[Any]) -> float:
    """Probability that a positive row scores above a negative one, ties counting half.

    AUC = (sum of the positives' mean ranks - n1 (n1 + 1) / 2) / (n1 n0), scikit-learn's `roc_auc_score`.

    Args:
        label: [n_rows] of 0 and 1.
        score: float [n_rows], finite.

    Returns:
        A value in [0, 1]; NaN where one class is missing.
    """
    rows = ScoredRows(user=np.zeros(len(label), dtype=np.int64), label=label, score=score)
    return float(area_under_curve_resampled(rows, np.ones((1, min(len(label), 1)), dtype=np.int64))[0])


def area_under_curve_resampled(rows: ScoredRows, user_weights: NDArray[Any]) -> Floats:
    """`area_under_curve` with each user's rows taken as often as the user was drawn.

    Rows are sorted once; each resample is a cumulative sum of weighted negatives over the ties. Counts are integers,
    so the result is exact up to the last division.

    Args:
        rows: Checked rows.
        user_weights: int [n_resamples, n_users], users in increasing order.

    Returns:
        float64 [n_resamples]; NaN where a resample lacks a class.
    """
    n_rows, n_resamples = len(rows.score), len(user_weights)
    result = np.full(n_resamples, np.nan)
    if n_rows == 0:
        return result
    _, index = user_index(rows.user)
    order = np.argsort(rows.ranking, kind="stable")
    score, user = rows.ranking[order], index[order]
    positive = np.flatnonzero(rows.label[order] == 1)
    negative = np.flatnonzero(rows.label[order] == 0)
    # The negatives lie in increasing score: how many of them are below each positive, and how many not above it.
    below = np.searchsorted(score[negative], score[positive], side="left")
    not_above = np.searchsorted(score[negative], score[positive], side="right")
    weights = np.ascontiguousarray(np.asarray(user_weights, dtype=np.int64).T)  # [n_users, n_resamples]
    step = max(1, CHUNK_NUMBERS // n_rows)
    for start in range(0, n_resamples, step):
        chunk = weights[:, start : start + step]
        ahead = np.zeros((len(negative) + 1, chunk.shape[1]), dtype=np.int64)
        np.cumsum(chunk[user[negative]], axis=0, out=ahead[1:])
        drawn = chunk[user[positive]]
        twice_wins = np.einsum("pr,pr->r", drawn, ahead[below]) + np.einsum("pr,pr->r", drawn, ahead[not_above])
        pairs = drawn.sum(axis=0) * ahead[-1]
        usable = pairs > 0
        result[start : start + step][usable] = twice_wins[usable] / (2.0 * pairs[usable])
    return result


def log_losses(label: NDArray[Any], score: NDArray[Any]) -> Floats:
    """Negative log-likelihood of each label, in nats.

    Args:
        label: [n_rows] of 0 and 1.
        score: float64 [n_rows], probabilities of a positive label; clipped by one float64 epsilon as scikit-learn does.

    Returns:
        float64 [n_rows].

    Raises:
        DataError: If a score lies outside [0, 1].
    """
    check_probabilities(score)
    epsilon = np.finfo(np.float64).eps
    probability = np.clip(np.asarray(score, dtype=np.float64), epsilon, 1 - epsilon)
    losses: Floats = -np.where(label == 1, np.log(probability), np.log1p(-probability))
    return losses


def check_probabilities(score: NDArray[Any]) -> None:
    """Refuses scores that are not probabilities.

    Args:
        score: float [n_rows].

    Raises:
        DataError: If a score lies outside [0, 1].
    """
    outside = np.flatnonzero((score < 0) | (score > 1))
    if outside.size:
        raise DataError(
            f"scored rows: score {score[outside[0]]} in row {outside[0]} is not a probability; this metric needs "
            "scores in [0, 1]: pass the sigmoid of the logits"
        )


def row_mean_resampled(rows: ScoredRows, values: Floats, user_weights: NDArray[Any]) -> Floats:
    """Mean of per-row values with each user's rows taken as often as the user was drawn.

    Args:
        rows: Checked rows.
        values: float64 [n_rows].
        user_weights: int [n_resamples, n_users], users in increasing order.

    Returns:
        float64 [n_resamples]; NaN where no row was drawn.
    """
    n_users, index = user_index(rows.user)
    sums = np.bincount(index, weights=values, minlength=n_users).astype(np.float64)
    counts = np.bincount(index, minlength=n_users)
    return weighted_ratio(user_weights, sums, counts.astype(np.float64))


def weighted_ratio(weights: NDArray[Any], numerator: Floats, denominator: Floats) -> Floats:
    """Sum over users of weight x numerator, divided by that of weight x denominator.

    Args:
        weights: int [n_resamples, n_users].
        numerator: float64 [n_users].
        denominator: float64 [n_users], at least 0.

    Returns:
        float64 [n_resamples]; NaN where the denominator is 0.
    """
    drawn = np.asarray(weights, dtype=np.float64)
    below = drawn @ denominator
    ratio = np.full(len(drawn), np.nan)
    np.divide(drawn @ numerator, below, out=ratio, where=below > 0)
    return ratio
