from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from collm.contracts.metric import ScoredRows
from collm.metrics import classification
from collm.metrics.classification import area_under_curve, area_under_curve_resampled


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_area_agrees_with_scikit_learn(dtype):
    generator = np.random.default_rng(0)
    label = generator.integers(0, 2, size=500)
    score = np.round(generator.normal(size=500) + label, 1).astype(dtype)
    assert area_under_curve(label, score) == pytest.approx(roc_auc_score(label, score), abs=1e-12)


def test_area_without_a_class_or_without_rows_is_nan():
    assert np.isnan(area_under_curve(np.ones(3), np.arange(3.0)))
    assert np.isnan(area_under_curve(np.ones(0), np.arange(0.0)))


def test_chunks_do_not_change_resamples(monkeypatch):
    generator = np.random.default_rng(1)
    rows = ScoredRows(
        user=generator.integers(0, 9, size=80),
        label=generator.integers(0, 2, size=80).astype(np.int8),
        score=np.round(generator.random(80), 1),
    )
    weights = generator.integers(0, 3, size=(17, 9))
    whole = area_under_curve_resampled(rows, weights)
    monkeypatch.setattr(classification, "CHUNK_NUMBERS", 250)
    np.testing.assert_array_equal(area_under_curve_resampled(rows, weights), whole)


def test_weighted_area_agrees_with_scikit_learns_sample_weight():
    generator = np.random.default_rng(2)
    user, label = generator.integers(0, 9, size=80), generator.integers(0, 2, size=80).astype(np.int8)
    score = np.round(generator.random(80), 1)
    weights = generator.integers(0, 3, size=(5, 9))
    found = area_under_curve_resampled(ScoredRows(user=user, label=label, score=score), weights)
    expected = [roc_auc_score(label, score, sample_weight=weight[user]) for weight in weights]
    np.testing.assert_allclose(found, expected, atol=1e-12)
