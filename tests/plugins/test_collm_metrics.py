from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss, ndcg_score, roc_auc_score

from collm.contracts.metric import MetricConfig, ScoredRows
from collm.errors import DataError
from collm.testing.metric_suite import MetricContract
from collm_metrics import register_metrics
from collm_metrics.config import NdcgConfig
from collm_metrics.metrics import build_accuracy, build_auc, build_gauc, build_logloss, build_ndcg, build_uauc

COMPONENTS = {component.name: component for component in register_metrics()}
CONFIG = MetricConfig(name="any")
NDCG = NdcgConfig(name="ndcg")


class TestAuc(MetricContract):
    component = COMPONENTS["auc"]


class TestUauc(MetricContract):
    component = COMPONENTS["uauc"]


class TestGauc(MetricContract):
    component = COMPONENTS["gauc"]


class TestNdcg(MetricContract):
    component = COMPONENTS["ndcg"]


class TestNdcgAtThree(MetricContract):
    component = COMPONENTS["ndcg"]
    settings: ClassVar[Mapping[str, Any]] = {"k": 3}


class TestLogloss(MetricContract):
    component = COMPONENTS["logloss"]


class TestAccuracy(MetricContract):
    component = COMPONENTS["accuracy"]


def test_names():
    lists = {"hr", "recall", "precision", "map", "mrr"}
    assert set(COMPONENTS) == {"auc", "uauc", "gauc", "ndcg", "logloss", "accuracy", *lists}
    assert {name for name, each in COMPONENTS.items() if "lists" in each.measures} == {"ndcg", *lists}
    assert {name for name, each in COMPONENTS.items() if "rows" not in each.measures} == lists


def random_rows(seed: int, *, n_rows: int = 400, decimals: int = 2) -> ScoredRows:
    generator = np.random.default_rng(seed)
    user = generator.integers(0, 60, size=n_rows)
    label = generator.integers(0, 2, size=n_rows).astype(np.int8)
    return ScoredRows(user=user, label=label, score=np.round(generator.random(n_rows), decimals))


def usable_groups(rows: ScoredRows):
    for user in np.unique(rows.user):
        mine = rows.user == user
        if 0 < rows.label[mine].sum() < mine.sum():
            yield rows.label[mine], rows.score[mine]


@pytest.mark.parametrize("decimals", [1, 2, 9])
@pytest.mark.parametrize("seed", range(3))
def test_values_agree_with_scikit_learn(seed, decimals):
    rows = random_rows(seed, decimals=decimals)
    groups = list(usable_groups(rows))
    areas = [roc_auc_score(label, score) for label, score in groups]
    gains = [ndcg_score([label], [score]) for label, score in groups]
    expected = {
        build_auc: roc_auc_score(rows.label, rows.score),
        build_uauc: np.mean(areas),
        build_gauc: np.average(areas, weights=[len(label) for label, _ in groups]),
        build_ndcg: np.mean(gains),
        build_logloss: log_loss(rows.label, rows.score),
        build_accuracy: accuracy_score(rows.label, rows.score >= 0.5),
    }
    for build, value in expected.items():
        assert build(NDCG if build is build_ndcg else CONFIG).compute(rows).value == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("decimals", [1, 2, 9])
@pytest.mark.parametrize("k", [1, 2, 5, 10, 1000])
def test_ndcg_at_k_agrees_with_scikit_learn(k: int, decimals: int):
    rows = random_rows(k, decimals=decimals)
    expected = np.mean([ndcg_score([label], [score], k=k) for label, score in usable_groups(rows)])
    found = build_ndcg(NdcgConfig(name="ndcg", k=k)).compute(rows).value
    assert found == pytest.approx(expected, abs=1e-9)
    if k == 1000:
        assert found == build_ndcg(NDCG).compute(rows).value


def test_a_tie_across_place_k_by_hand():
    # places 1 to 3 are one tie with one positive, two places count: (1 + 1/log2(3)) / 3; the best order gains 1
    rows = ScoredRows(
        user=np.ones(4, dtype=np.int64),
        label=np.array([1, 0, 0, 0], dtype=np.int8),
        score=np.array([0.5, 0.5, 0.5, 0.1]),
    )
    found = build_ndcg(NdcgConfig(name="ndcg", k=2)).compute(rows).value
    assert found == pytest.approx((1 + 1 / np.log2(3)) / 3)


def test_values_by_hand():
    # user 1: 0.9+ 0.5- 0.5+ -> AUC 0.75; user 2: one class; user 3: one row
    rows = ScoredRows(
        user=np.array([1, 1, 1, 2, 2, 3]),
        label=np.array([1, 0, 1, 1, 1, 0], dtype=np.int8),
        score=np.array([0.9, 0.5, 0.5, 0.4, 0.3, 0.1]),
    )
    uauc = build_uauc(CONFIG).compute(rows)
    assert (uauc.value, uauc.n, uauc.skipped) == (0.75, 1, {"one-row": 1, "one-class": 1})
    # place 1 gains 1; places 2 and 3 gain 1/2 each; ideal is 1 + 1/log2(3)
    second, third = 1 / np.log2(3), 1 / np.log2(4)
    assert build_ndcg(NDCG).compute(rows).value == pytest.approx((1 + 0.5 * second + 0.5 * third) / (1 + second))
    # 4 x 2 pairs; the negative 0.5 loses to 0.9, ties 0.5, beats 0.4 and 0.3; the negative 0.1 loses to all
    assert build_auc(CONFIG).compute(rows).value == pytest.approx((1 + 0.5 + 4) / 8)


def test_gauc_weighs_users_by_rows():
    rows = ScoredRows(
        user=np.array([1, 1, 2, 2, 2, 2]),
        label=np.array([1, 0, 1, 0, 0, 0], dtype=np.int8),
        score=np.array([0.9, 0.1, 0.1, 0.2, 0.3, 0.4]),
    )
    assert build_uauc(CONFIG).compute(rows).value == pytest.approx(0.5)
    assert build_gauc(CONFIG).compute(rows).value == pytest.approx(2 / 6)


def test_constant_score_is_one_half():
    rows = random_rows(0)
    constant = ScoredRows(user=rows.user, label=rows.label, score=np.full(len(rows.user), 0.3))
    assert build_auc(CONFIG).compute(constant).value == 0.5
    assert build_uauc(CONFIG).compute(constant).value == 0.5


def test_one_class_says_so():
    rows = random_rows(0)
    positive = ScoredRows(user=rows.user, label=np.ones_like(rows.label), score=rows.score)
    auc = build_auc(CONFIG).compute(positive)
    assert auc.value is None
    assert auc.reason == "only one class: 400 positive and 0 negative rows"
    uauc = build_uauc(CONFIG).compute(positive)
    assert uauc.value is None
    assert uauc.reason == "no user has two rows and both labels"


@pytest.mark.parametrize("build", [build_logloss, build_accuracy])
def test_probabilities_are_asked_for(build):
    rows = ScoredRows(user=np.array([1, 1]), label=np.array([0, 1], dtype=np.int8), score=np.array([0.5, 1.5]))
    with pytest.raises(DataError, match=r"score 1\.5 in row 1 is not a probability"):
        build(CONFIG).compute(rows)
