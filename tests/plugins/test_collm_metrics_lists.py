"""Metrics of ranked lists beside ir-measures, which computes them with trec_eval's code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import ir_measures
import numpy as np
import pytest
from ir_measures import AP, RR, P, R, Success, nDCG

from collm.contracts.metric import Metric, ScoredRows
from collm.errors import DataError
from collm.metrics.evaluate import evaluate
from collm.registry import default_registry
from collm.stages.evaluate import build_metrics
from collm.testing.metric_suite import MetricContract
from collm_metrics import register_metrics

COMPONENTS = {component.name: component for component in register_metrics()}


class TestHr(MetricContract):
    component = COMPONENTS["hr"]
    settings: ClassVar[Mapping[str, Any]] = {"k": 3}


class TestRecall(MetricContract):
    component = COMPONENTS["recall"]
    settings: ClassVar[Mapping[str, Any]] = {"k": 3}


class TestPrecision(MetricContract):
    component = COMPONENTS["precision"]
    settings: ClassVar[Mapping[str, Any]] = {"k": 3}


class TestMap(MetricContract):
    component = COMPONENTS["map"]


class TestMapAtThree(MetricContract):
    component = COMPONENTS["map"]
    settings: ClassVar[Mapping[str, Any]] = {"k": 3}


class TestMrr(MetricContract):
    component = COMPONENTS["mrr"]


def lists(seed: int, *, n_users: int = 40, n_items: int = 60, depth: int = 60) -> ScoredRows:
    """Ranked lists of `n_items` candidates: the best `depth` of each user, and all of 1 to 9 positives."""
    draw = np.random.default_rng(seed)
    user, label, rank = [], [], []
    for number in range(n_users):
        positives = draw.choice(n_items, size=draw.integers(1, 10), replace=False) + 1
        for place in range(1, n_items + 1):
            if place <= depth or place in positives:
                user.append(number * 3 + 1)
                label.append(int(place in positives))
                rank.append(place)
    ranks = np.array(rank)
    return ScoredRows(np.array(user), np.array(label, dtype=np.int8), -ranks.astype(float), rank=ranks)


def metric(text: str) -> Metric:
    (found,) = build_metrics([text], default_registry()).values()
    return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("text", "measure"),
    [
        ("hr@10", Success @ 10),
        ("hr@1", Success @ 1),
        ("ndcg@10", nDCG @ 10),
        ("ndcg", nDCG),
        ("recall@20", R @ 20),
        ("precision@5", P @ 5),
        ("map", AP),
        ("map@10", AP @ 10),
        ("map@3", AP @ 3),
        ("ndcg@3", nDCG @ 3),
        ("recall@3", R @ 3),
        ("mrr", RR),
        ("mrr@10", RR @ 10),
    ],
)
def test_values_are_those_of_ir_measures(seed: int, text: str, measure: Any) -> None:
    rows = lists(seed)
    truth = [
        ir_measures.Qrel(str(user), str(rank), int(label))
        for user, rank, label in zip(rows.user, rows.rank, rows.label, strict=True)  # type: ignore[arg-type]
    ]
    run = [
        ir_measures.ScoredDoc(str(user), str(rank), float(1000 - rank))
        for user, rank in zip(rows.user, rows.rank, strict=True)  # type: ignore[arg-type]
    ]
    expected = ir_measures.calc_aggregate([measure], truth, run)[measure]
    found = metric(text).compute(rows)
    assert found.value == pytest.approx(expected, abs=1e-9)
    assert found.n == 40


@pytest.mark.parametrize("text", ["hr@10", "ndcg@10", "ndcg", "recall@20", "precision@5", "map@10", "mrr"])
def test_the_best_items_and_the_positives_are_enough(text: str) -> None:
    whole, short = lists(5), lists(5, depth=20)
    assert len(short.user) < len(whole.user)
    assert metric(text).compute(short).value == metric(text).compute(whole).value


def test_by_hand() -> None:
    rows = ScoredRows(
        user=np.array([1, 1, 1, 2]),
        label=np.array([0, 1, 1, 1], dtype=np.int8),
        score=np.array([-1.0, -2.0, -5.0, -4.0]),
        rank=np.array([1, 2, 5, 4]),
    )
    found = {
        text: metric(text).compute(rows).value for text in ("hr@2", "recall@2", "precision@4", "mrr", "map", "mrr@3")
    }
    assert found == {
        "hr@2": 0.5,
        "recall@2": 0.25,
        "precision@4": 0.25,
        "mrr": (1 / 2 + 1 / 4) / 2,
        "map": ((1 / 2 + 2 / 5) / 2 + 1 / 4) / 2,
        "mrr@3": 0.25,
    }
    discounts = 1 / np.log2(1 + np.array([2, 5, 4]))
    ideal = 1 + 1 / np.log2(3)
    assert metric("ndcg").compute(rows).value == pytest.approx(((discounts[:2].sum() / ideal) + discounts[2]) / 2)


def test_labelled_rows_are_refused() -> None:
    rows = ScoredRows(np.array([1, 1]), np.array([0, 1], dtype=np.int8), np.array([0.2, 0.4]))
    for text in ("hr@10", "recall@10", "precision@10", "map", "mrr"):
        with pytest.raises(DataError, match=r"put it under evaluate\.ranking\.metrics"):
            metric(text).compute(rows)
    assert metric("ndcg@1").compute(rows).value == 1.0


def test_lists_without_a_hit_have_an_interval_that_says_how_little_is_known() -> None:
    """None of 30 users: up to 1 - 0.025 ** (1 / 30) of all users may have one (Clopper and Pearson 1934)."""
    n = 30
    rows = ScoredRows(np.arange(n), np.ones(n, dtype=np.int8), -np.full(n, 50.0), rank=np.full(n, 50))
    found = evaluate(build_metrics(["hr@10", "mrr"], default_registry()), rows, n_resamples=200, seed=0)
    assert (found["hr@10"]["value"], found["hr@10"]["low"]) == (0.0, 0.0)
    assert found["hr@10"]["high"] == pytest.approx(1 - 0.025 ** (1 / n))
    all_hit = ScoredRows(np.arange(n), np.ones(n, dtype=np.int8), -np.ones(n), rank=np.ones(n, dtype=int))
    found = evaluate(build_metrics(["hr@10", "mrr"], default_registry()), all_hit, n_resamples=200, seed=0)
    assert (found["mrr"]["low"], found["mrr"]["high"]) == (pytest.approx(0.025 ** (1 / n)), 1.0)
