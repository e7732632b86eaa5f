"""Two runs side by side: both orders say the same, and what is left out is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from report_fakes import WriteRun, rank, scores
from sklearn.metrics import roc_auc_score

from collm.errors import RunError
from collm.registry import Registry
from collm.report.difference import run_difference


def write(write_run: WriteRun, name: str, **evaluate: Any) -> Path:
    """Returns a run whose results have the slices and metrics that its spec names."""
    settings = {"splits": ["test"], "slices": ["all"], "metrics": ["auc"], "resamples": 50} | evaluate
    frame = scores(1.0, seed=len(name))
    record = {"value": 0.5, "n": 480}
    found = {part: dict.fromkeys(settings["metrics"], record) for part in settings["slices"]}
    valid = frame.with_columns(split=pl.lit("valid"))
    parts = {"test": frame, "valid": valid}
    return write_run(
        name,
        frame=pl.concat(parts[split] for split in settings["splits"]),
        floors=False,
        spec={"evaluate": settings},
        metrics=dict.fromkeys(settings["splits"], found),
    )


def test_metrics_of_either_run_are_compared(write_run: WriteRun, registry: Registry) -> None:
    one, other = write(write_run, "a", metrics=["auc"]), write(write_run, "bb", metrics=["ndcg@3"])
    there, back = run_difference(one, other, registry), run_difference(other, one, registry)
    assert set(there["metrics"]["test"]) == set(back["metrics"]["test"]) == {"auc", "ndcg@3"}
    frames = [scores(1.0, seed=seed) for seed in (1, 2)]
    values = [roc_auc_score(frame["label"], frame["score"]) for frame in frames]
    assert there["metrics"]["test"]["auc"]["difference"] == pytest.approx(values[1] - values[0])
    assert back["metrics"]["test"]["auc"]["difference"] == pytest.approx(values[0] - values[1])


def test_the_slice_is_named_where_no_run_measured_all_rows(write_run: WriteRun, registry: Registry) -> None:
    one = write(write_run, "a", slices=["cold", "warm"])
    found = run_difference(one, write(write_run, "bb", slices=["warm"]), registry)
    cold = [frame.filter(pl.col("user_train_rows") < 3) for frame in (scores(1.0, seed=1), scores(1.0, seed=2))]
    values = [roc_auc_score(frame["label"], frame["score"]) for frame in cold]
    assert found["metrics"]["test"]["auc"]["first"] == pytest.approx(values[0])
    assert "test: the cold slice alone, because no run measured all rows" in found["note"]
    found = run_difference(one, write(write_run, "ccc"), registry)
    assert "slice alone" not in found["note"]


def test_a_split_of_one_run_is_left_out_and_named(write_run: WriteRun, registry: Registry) -> None:
    both, one = write(write_run, "a", splits=["valid", "test"]), write(write_run, "bb")
    for pair in ((both, one), (one, both)):
        found = run_difference(*pair, registry)
        assert set(found["metrics"]) == {"test"}
        assert "valid: not compared, one run alone scored it" in found["note"]
    with pytest.raises(RunError, match=r"no split is in both; add one to `evaluate\.splits`"):
        run_difference(one, write(write_run, "ccc", splits=["valid"]), registry)


def test_metrics_without_a_value_are_named(write_run: WriteRun, registry: Registry) -> None:
    frame = scores(1.0).with_columns(label=pl.lit(1, pl.Int8))
    folders = [write_run(name, frame=frame, floors=False) for name in ("a", "bb")]
    found = run_difference(*folders, registry)
    assert found["metrics"]["test"] == {}
    assert "test: AUC, uAUC, NDCG not compared, because a value or its interval is not defined" in found["note"]


def test_rankings_of_one_run_or_of_other_splits_are_named(write_run: WriteRun, registry: Registry) -> None:
    plain = write(write_run, "a")
    test = rank(write(write_run, "bb"), "hr@3", seed=1)
    valid = rank(write(write_run, "ccc"), "mrr", seed=2, split="valid")
    other = rank(write(write_run, "dddd"), "mrr", seed=3)
    for pair in ((plain, test), (test, plain)):
        assert (
            "rankings are not compared, because one of the runs ranked nothing"
            in run_difference(*pair, registry)["note"]
        )
    for pair in ((test, valid), (valid, test)):
        note = run_difference(*pair, registry)["note"]
        assert "test, ranking all: not compared" in note
        assert "valid, ranking all: not compared" in note
    assert set(run_difference(test, other, registry)["rankings"]["test"]["all"]) == {"hr@3", "mrr"}


def test_runs_of_other_rows_are_sent_to_the_report(write_run: WriteRun, registry: Registry) -> None:
    short = write_run("short", frame=scores(1.0).head(400))
    with pytest.raises(RunError, match="rows must be the same; `collm report` shows runs of other rows"):
        run_difference(write_run("a"), short, registry)
