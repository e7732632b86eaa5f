from __future__ import annotations

import numpy as np
import pytest

from collm.contracts.metric import MetricValue, ScoredRows
from collm.metrics import uncertainty
from collm.metrics.classification import row_mean_resampled
from collm.metrics.uncertainty import interval, user_bootstrap_weights


class MeanScore:
    higher_is_better = True
    unit = "rows"

    def compute(self, rows):
        return MetricValue(float(rows.score.mean()), len(rows.score))

    def resample(self, rows, user_weights):
        return row_mean_resampled(rows, rows.score, user_weights)


def one_row_per_user(n_users: int, seed: int = 0) -> ScoredRows:
    score = np.random.default_rng(seed).random(n_users)
    return ScoredRows(user=np.arange(n_users), label=np.zeros(n_users, dtype=np.int8), score=score)


def test_draws_are_seeded_and_complete():
    user = np.array([5, 5, 7, 9, 9, 9])
    weights = user_bootstrap_weights(user, 50, seed=3)
    assert weights.shape == (50, 3)
    assert (weights.sum(axis=1) == 3).all()
    np.testing.assert_array_equal(weights, user_bootstrap_weights(user, 50, seed=3))
    assert (weights != user_bootstrap_weights(user, 50, seed=4)).any()
    assert user_bootstrap_weights(user, 0, seed=3).shape == (0, 3)


def test_blocks_hold_bounded_memory_and_draw_evenly(monkeypatch):
    monkeypatch.setattr(uncertainty, "CHUNK_NUMBERS", 100)
    weights = user_bootstrap_weights(np.arange(40), 500, seed=0)
    assert (weights.sum(axis=1) == 40).all()
    assert weights.mean(axis=0) == pytest.approx(1, abs=0.2)


def test_interval_matches_the_normal_approximation():
    rows = one_row_per_user(400)
    low, high = interval(MeanScore(), rows, n_resamples=4000, seed=0)
    half = 1.96 * rows.score.std() / np.sqrt(400)
    assert low == pytest.approx(rows.score.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(rows.score.mean() + half, abs=0.1 * half)


def test_users_are_the_unit():
    # The same rows in 10 users of 40 equal rows: the interval must be wider than with 400 users.
    rows = one_row_per_user(400)
    score = np.repeat(rows.score[:10], 40)
    clustered = ScoredRows(user=np.repeat(np.arange(10), 40), label=rows.label, score=score)
    split = ScoredRows(user=np.arange(400), label=rows.label, score=score)
    wide = interval(MeanScore(), clustered, n_resamples=500, seed=0)
    narrow = interval(MeanScore(), split, n_resamples=500, seed=0)
    assert wide[1] - wide[0] > 3 * (narrow[1] - narrow[0])


def test_coverage_is_near_nominal():
    covered = 0
    for seed in range(200):
        low, high = interval(MeanScore(), one_row_per_user(200, seed), n_resamples=300, seed=seed)
        covered += low <= 0.5 <= high
    assert 0.90 <= covered / 200 <= 0.99


@pytest.mark.parametrize(("n_users", "n_resamples"), [(0, 100), (1, 100), (5, 0)])
def test_no_interval_where_nothing_varies(n_users, n_resamples):
    assert interval(MeanScore(), one_row_per_user(n_users), n_resamples=n_resamples, seed=0) is None
