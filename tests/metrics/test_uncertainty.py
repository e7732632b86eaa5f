"""Intervals over users: what is drawn, textbook formulas, few users, users of very different weight."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from collm.contracts.metric import MetricValue, ScoredRows
from collm.metrics import uncertainty
from collm.metrics.classification import row_mean_resampled
from collm.metrics.uncertainty import Estimate, interval, paired_difference, user_df, user_draws, user_variance


class MeanScore:
    higher_is_better = True
    unit = "rows"

    def __init__(self):
        self.weights = []

    def compute(self, rows):
        return MetricValue(float(rows.score.mean()), len(rows.score))

    def resample(self, rows, user_weights):
        self.weights.append(user_weights)
        return row_mean_resampled(rows, rows.score, user_weights)


def one_row_per_user(n_users: int, seed: int = 0) -> ScoredRows:
    score = np.random.default_rng(seed).random(n_users)
    return ScoredRows(user=np.arange(n_users), label=np.zeros(n_users, dtype=np.int8), score=score)


def drawn(rows: ScoredRows, n: int, seed: int):
    metric = MeanScore()
    draws = user_draws(metric, rows, n_resamples=n, seed=seed)
    *resamples, left_out = metric.weights
    return draws, np.concatenate(resamples), left_out


def test_draws_are_seeded_and_complete():
    rows = ScoredRows(user=np.array([5, 5, 7, 9, 9, 9]), label=np.zeros(6), score=np.arange(6.0))
    draws, weights, left_out = drawn(rows, 50, seed=3)
    assert weights.shape == (50, 3)
    assert (weights.sum(axis=1) == 3).all()
    assert draws.resampled.shape == (50,)
    np.testing.assert_array_equal(weights, drawn(rows, 50, seed=3)[1])
    assert (weights != drawn(rows, 50, seed=4)[1]).any()
    np.testing.assert_array_equal(left_out, [[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    assert draws.left_out == pytest.approx([14 / 4, 13 / 5, 3 / 3])


def test_blocks_hold_bounded_memory_and_draw_evenly(monkeypatch):
    monkeypatch.setattr(uncertainty, "CHUNK_NUMBERS", 100)
    _, weights, _ = drawn(one_row_per_user(40), 500, seed=0)
    assert (weights.sum(axis=1) == 40).all()
    assert weights.mean(axis=0) == pytest.approx(1, abs=0.2)


def test_many_users_are_not_left_out_one_by_one(monkeypatch):
    monkeypatch.setattr(uncertainty, "JACKKNIFE_USERS", 30)
    assert len(user_draws(MeanScore(), one_row_per_user(30), n_resamples=5, seed=0).left_out) == 30
    assert len(user_draws(MeanScore(), one_row_per_user(31), n_resamples=5, seed=0).left_out) == 0


@pytest.mark.parametrize("n_users", [8, 30, 400])
def test_interval_of_a_mean_is_students(n_users):
    # With one row per user the metric is a mean, whose interval is in every textbook.
    rows = one_row_per_user(n_users, seed=4)
    low, high = interval(MeanScore(), rows, n_resamples=20_000, seed=0)
    expected = stats.t.interval(0.95, n_users - 1, rows.score.mean(), stats.sem(rows.score))
    half = (expected[1] - expected[0]) / 2
    assert (low, high) == pytest.approx(expected, abs=0.05 * half)


def test_users_are_the_unit():
    # The same rows in 10 users of 40 equal rows: the interval must be wider than with 400 users.
    rows = one_row_per_user(400)
    score = np.repeat(rows.score[:10], 40)
    clustered = ScoredRows(user=np.repeat(np.arange(10), 40), label=rows.label, score=score)
    split = ScoredRows(user=np.arange(400), label=rows.label, score=score)
    wide = interval(MeanScore(), clustered, n_resamples=500, seed=0)
    narrow = interval(MeanScore(), split, n_resamples=500, seed=0)
    assert wide[1] - wide[0] > 3 * (narrow[1] - narrow[0])


def test_an_interval_ends_where_the_metric_does():
    rows = ScoredRows(user=np.arange(6), label=np.zeros(6), score=np.array([1, 1, 1, 1, 1, 0.0]))
    assert interval(MeanScore(), rows, n_resamples=500, seed=0)[1] > 1
    bounded = MeanScore()
    bounded.bounds = (0.0, 1.0)
    assert interval(bounded, rows, n_resamples=500, seed=0)[1] == 1.0


def test_few_heavy_users_leave_fewer_degrees_of_freedom():
    equal = np.tile([1.0, -1.0], 25)  # kurtosis 1: the variance is known as well as it can be
    assert user_df(equal, 50) == 49
    heavy = np.zeros(50)
    heavy[0] = 1.0
    kurtosis = stats.kurtosis(heavy, fisher=False)
    assert user_df(heavy, 50) == pytest.approx(2 * 50 / (kurtosis - 1))
    assert user_df(np.zeros(0), 50) == 49
    assert user_df(np.zeros(50), 50) == 49
    assert math.isinf(user_df(heavy, None))


def test_variance_is_unbiased_and_needs_two_users():
    values = np.array([1.0, 2.0, np.nan, 4.0])
    assert user_variance(values, 5) == pytest.approx(np.var([1, 2, 4], ddof=1) * 5 / 4)
    assert user_variance(values, None) == pytest.approx(np.var([1, 2, 4], ddof=1))
    assert user_variance(values, 1) is None
    assert user_variance(np.array([np.nan, 1.0]), 5) is None


def test_users_alone_are_students_t():
    estimate = Estimate(0.3, 0.04, 12)
    assert estimate.interval() == pytest.approx(stats.t.interval(0.95, 12, 0.3, 0.2))
    assert estimate.p_value() == pytest.approx(2 * stats.t.sf(1.5, 12))


def test_seeds_alone_are_students_t():
    estimate = Estimate(0.3, 0.0, 50, seed_variance=0.04, seed_df=2)
    assert estimate.interval() == pytest.approx(stats.t.interval(0.95, 2, 0.3, 0.2))
    assert estimate.p_value() == pytest.approx(2 * stats.t.sf(1.5, 2))


@pytest.mark.parametrize("value", [0.0, 0.01, 0.3, 1.0, 40.0])
@pytest.mark.parametrize("seed_variance", [0.0, 1e-4, 0.04, 1.0])
def test_p_is_under_5_percent_exactly_where_the_interval_excludes_zero(value, seed_variance):
    estimate = Estimate(value, 0.01, 30, seed_variance, 1)
    low, high = estimate.interval()
    assert 0 <= estimate.p_value() <= 1
    assert (estimate.p_value() < 0.05) == (not low <= 0 <= high)
    half = (
        estimate.critical(estimate.p_value()) * estimate.standard_error if estimate.p_value() not in (0, 1) else value
    )
    assert half == pytest.approx(value, abs=1e-6)


def test_nothing_that_varies():
    assert Estimate(0.0, 0.0, 5).p_value() == 1.0
    # Users who all agree: a sign test, in which two or three prove nothing.
    assert Estimate(1.0, 0.0, 1).p_value() == 0.5
    assert Estimate(-0.5, 0.0, 2).p_value() == 0.25
    assert Estimate(0.1, 0.0, 5).p_value() == 2 / 2**6
    assert Estimate(0.1, 0.0, math.inf).p_value() == 0.0
    assert Estimate(0.1, 0.0, 5).interval() == (0.1, 0.1)


def test_a_few_users_who_agree_give_no_interval_without_width() -> None:
    def same(n_users: int) -> ScoredRows:
        return ScoredRows(user=np.arange(n_users), label=np.ones(n_users, np.int8), score=np.ones(n_users))

    assert interval(MeanScore(), same(5), n_resamples=50, seed=0) is None
    assert interval(MeanScore(), same(6), n_resamples=50, seed=0) == (1.0, 1.0)


@pytest.mark.parametrize(("n_users", "n_resamples"), [(0, 100), (1, 100), (5, 0)])
def test_no_interval_where_nothing_varies(n_users, n_resamples):
    assert interval(MeanScore(), one_row_per_user(n_users), n_resamples=n_resamples, seed=0) is None


def test_a_paired_difference_is_that_of_a_paired_t_test():
    first, second = one_row_per_user(200, seed=1), one_row_per_user(200, seed=2)
    gap, low, high = paired_difference(MeanScore(), first, second, n_resamples=4000, seed=0)
    each = first.score - second.score
    assert gap == pytest.approx(each.mean())
    expected = stats.t.interval(0.95, 199, loc=each.mean(), scale=stats.sem(each))
    assert (low, high) == pytest.approx(expected, abs=0.004)
    assert paired_difference(MeanScore(), one_row_per_user(1), one_row_per_user(1), n_resamples=10, seed=0) is None
