"""Scores: probabilities rise with logits, ties are named, saturated probabilities do not decide rankings."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from collm.ensemble import _rounded_notes
from collm.metrics.evaluate import evaluate
from collm.metrics.score_notes import few_users_notes, tie_notes
from collm.metrics.scored_rows import scored_rows
from collm.registry import default_registry
from collm.stages.evaluate import build_metrics
from collm.stages.score_tables import floor_notes, probabilities


def frame(logit: np.ndarray, users: list[str] | None = None) -> pl.DataFrame:
    n = len(logit)
    return pl.DataFrame(
        {
            "split": ["test"] * n,
            "user": users or [str(index % 5) for index in range(n)],
            "label": (np.arange(n) % 3 == 0).astype(np.int8),
            "logit": logit.astype(np.float32),
            "score": probabilities(logit.astype(np.float32)),
        }
    )


def test_floors_say_what_their_probabilities_tie() -> None:
    """`floors.parquet` holds probabilities: reports cannot tell apart what rounds to 1 there."""
    plain = SimpleNamespace(logits={"test": np.linspace(-3, 3, 60, dtype=np.float32)})
    long = SimpleNamespace(logits={"test": np.linspace(50, 90, 60, dtype=np.float32), "valid": np.zeros(9, np.float32)})
    floors: Any = {"plain": plain, "long": long}
    assert floor_notes(floors) == [
        "Floor long: 59 of 60 distinct test logits round to the same probability; reports compare methods with it by "
        "the probability."
    ]
    assert floor_notes({}) == []


def test_an_ensemble_says_whose_scores_are_tied() -> None:
    def member(logits: Any) -> pl.DataFrame:
        return pl.DataFrame({"split": ["test"] * 60, "logit": logits, "score": probabilities(logits)})

    members = {"a": member(np.linspace(-3, 3, 60)), "b": member(np.linspace(50, 90, 60))}
    (said,) = _rounded_notes(members)
    assert said.startswith(
        "b: 59 of 60 distinct test logits round to the same probability, so the mean of scores ranks"
    )
    nested = members["b"].with_columns(pl.lit(None, dtype=pl.Float32).alias("logit"))
    assert list(_rounded_notes({"of-runs": nested})) == []


def test_probabilities_are_those_of_the_positive_label() -> None:
    logits = np.array([-800.0, -3.0, 0.0, 0.5, 40.0, 800.0])
    np.testing.assert_allclose(probabilities(logits), expit(logits), rtol=1e-12)
    assert (np.diff(probabilities(logits)) >= 0).all()
    assert probabilities(np.array([2.0]))[0] > 0.5 > probabilities(np.array([-2.0]))[0]


def test_rankings_take_the_logit_where_probabilities_round_to_one() -> None:
    logit = 50 + np.random.default_rng(0).normal(size=200)
    scores = frame(logit)
    assert scores["score"].n_unique() == 1
    metrics = build_metrics(["auc", "uauc", "ndcg", "logloss"], default_registry())
    found = evaluate(metrics, scored_rows(scores), n_resamples=0, seed=0)
    assert found["auc"]["value"] == pytest.approx(roc_auc_score(scores["label"], logit))
    users = [scores.filter(user=name) for name in scores["user"].unique()]
    expected = np.mean([roc_auc_score(each["label"], each["logit"]) for each in users])
    assert found["uauc"]["value"] == pytest.approx(expected)
    assert found["logloss"]["value"] > 10
    (note,) = tie_notes(scores)
    assert "199 of 200 distinct test logits round to the same probability" in note


def test_an_ensemble_without_logits_ranks_by_its_scores() -> None:
    scores = frame(np.linspace(-2, 2, 60)).with_columns(logit=pl.lit(None, dtype=pl.Float32))
    rows = scored_rows(scores)
    assert rows.logit is None
    np.testing.assert_array_equal(rows.ranking, scores["score"])


def test_scores_that_share_few_values_are_named() -> None:
    assert tie_notes(frame(np.linspace(-1, 1, 300))) == []
    (one,) = tie_notes(frame(np.zeros(300)))
    assert "The 300 test rows share one value as their score" in one
    (few,) = tie_notes(frame(np.arange(300) % 4 * 1.0))
    assert "4 distinct values" in few
    assert tie_notes(frame(np.zeros(10))) == []


def test_users_are_numbered_by_their_ids_and_not_by_where_they_stand() -> None:
    users = ["10", "9", "b", "a", "10", "9"]
    shuffled = frame(np.arange(6.0), users)
    assert scored_rows(shuffled).user.tolist() == [3, 0, 2, 1, 3, 0]


def test_items_times_and_counts_are_there_where_they_are_known() -> None:
    bare = scored_rows(frame(np.arange(6.0)))
    assert (bare.item, bare.timestamp, bare.user_train_rows, bare.item_train_rows) == (None, None, None, None)
    full = frame(np.arange(6.0)).with_columns(
        item=pl.Series(["b", "a", "b", "c", "10", "9"]),
        timestamp=pl.Series(range(6)),
        user_train_rows=pl.Series(range(6), dtype=pl.UInt32),
        item_train_rows=pl.Series([3] * 6),
    )
    rows = scored_rows(full)
    assert rows.item is not None
    assert rows.timestamp is not None
    assert rows.user_train_rows is not None
    assert rows.item.tolist() == [2, 1, 2, 3, 4, 0]
    assert rows.timestamp.tolist() == rows.user_train_rows.tolist() == list(range(6))
    assert rows.user_train_rows.dtype == np.int64
    without_times = full.with_columns(timestamp=pl.lit(None, dtype=pl.Int64))
    assert scored_rows(without_times).timestamp is None


def test_intervals_over_few_users_are_named() -> None:
    users = [str(index // 6) for index in range(180)]
    scores = frame(np.linspace(-1, 1, 180), users).with_columns(warm=pl.lit(True), cold=pl.Series(users) == "0")
    (note,) = few_users_notes(scores)
    assert note.startswith("Few test users have both labels (cold 1): under 30 users ")
    assert few_users_notes(scores.drop("cold")) == []
    (note,) = few_users_notes(scores.drop("cold").with_columns(label=(pl.col("user") == "0").cast(pl.Int8)))
    assert "(all 0, warm 0)" in note
    (note,) = few_users_notes(scores.drop("cold").filter(pl.col("user") != "7"))
    assert "(all 29, warm 29)" in note
