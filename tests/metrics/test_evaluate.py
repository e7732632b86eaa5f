from __future__ import annotations

import json
import time

import numpy as np
import pytest

from collm.contracts.metric import MetricConfig, MetricValue, ScoredRows
from collm.errors import DataError, PluginError
from collm.metrics.evaluate import evaluate
from collm_metrics.config import NdcgConfig
from collm_metrics.metrics import build_auc, build_ndcg, build_uauc

CONFIG = MetricConfig(name="any")
METRICS = {"auc": build_auc(CONFIG), "uauc": build_uauc(CONFIG), "ndcg": build_ndcg(NdcgConfig(name="ndcg"))}


def random_rows(n_rows: int, n_users: int, seed: int = 0) -> ScoredRows:
    generator = np.random.default_rng(seed)
    label = generator.integers(0, 2, size=n_rows).astype(np.int8)
    return ScoredRows(
        user=generator.integers(0, n_users, size=n_rows),
        label=label,
        score=1 / (1 + np.exp(-(generator.normal(size=n_rows) + label))),
    )


def test_entry_has_the_fields_of_the_run_folder():
    results = evaluate(METRICS, random_rows(300, 30), n_resamples=100, seed=0)
    assert list(results) == ["auc", "uauc", "ndcg"]
    for entry in results.values():
        assert list(entry) == ["value", "low", "high", "n", "skipped"]
        assert entry["low"] < entry["value"] < entry["high"]
    assert json.loads(json.dumps(results)) == results
    assert results == evaluate(METRICS, random_rows(300, 30), n_resamples=100, seed=0)


def test_empty_slice_is_null_with_a_reason():
    empty = ScoredRows(user=np.zeros(0, dtype=np.int64), label=np.zeros(0, dtype=np.int8), score=np.zeros(0))
    for entry in evaluate(METRICS, empty, n_resamples=10, seed=0).values():
        assert entry == {"value": None, "low": None, "high": None, "n": 0, "skipped": {}, "reason": "no rows"}


def test_single_user_has_a_value_and_no_interval():
    entry = evaluate(METRICS, random_rows(50, 1), n_resamples=10, seed=0)["uauc"]
    assert entry["value"] is not None
    assert (entry["low"], entry["high"], entry["n"]) == (None, None, 1)


def test_nan_score_is_an_error():
    rows = random_rows(10, 2)
    rows.score[3] = np.nan
    with pytest.raises(DataError, match="1 of 10 scores are NaN or infinite"):
        evaluate(METRICS, rows, n_resamples=10, seed=0)


@pytest.mark.parametrize(
    ("found", "message"),
    [(MetricValue(None, 0), "no value and no reason"), (MetricValue(float("nan"), 5), "gave NaN on 10 rows")],
)
def test_metric_that_breaks_its_contract_is_named(found, message):
    class Broken:
        higher_is_better, unit = True, "rows"

        def compute(self, rows):
            return found

    with pytest.raises(PluginError, match=f"metric 'mine' .*{message}"):
        evaluate({"mine": Broken()}, random_rows(10, 2), n_resamples=10, seed=0)


def test_three_slices_of_the_test_set_take_under_five_seconds():
    rows = random_rows(7331, 320)
    half = len(rows.user) // 2
    slices = [
        rows,
        *(ScoredRows(rows.user[part], rows.label[part], rows.score[part]) for part in (slice(half), slice(half, None))),
    ]
    start = time.perf_counter()
    for part in slices:
        evaluate(METRICS, part, n_resamples=1000, seed=0)
    assert time.perf_counter() - start < 5
