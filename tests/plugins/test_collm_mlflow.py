"""MLflow mirrors the events of a run; a repeated run replaces its mirror."""

from __future__ import annotations

from pathlib import Path

import pytest

from collm.runs.store import RunFolder
from collm_mlflow import run_finished, run_started, step_logged

pytest.importorskip("mlflow", reason="mlflow is not installed (extra `trackers`)")
FINAL = {"auc": 0.7, "ndcg@10": 0.8, "f(beta=2)": 0.9, "uauc": None}
RESULTS = {"metrics": {"test": {"all": {name: {"value": value} for name, value in FINAL.items()}}}}


def test_a_run_that_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.tracking import MlflowClient

    address = (tmp_path / "store").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "films")
    # The file store is enough for one person; MLflow asks to say so.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    folder = RunFolder(tmp_path / "runs", "mf", "01")
    spec = {"name": "mf", "encoder": {"name": "mf", "fit": {"epochs": 3}}}
    run_started(folder.path, spec)
    for step in (1, 2):
        folder.append_event("step_logged", stage="tune_1", step=step, values={"loss": 1 / step})
    run_started(folder.path, spec)
    step_logged(folder.path, "tune_1", 3, {"loss": 1 / 3})
    run_finished(folder.path, RESULTS)
    client = MlflowClient(address)
    experiment = client.get_experiment_by_name("films")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params == {"name": "mf", "encoder.name": "mf", "encoder.fit.epochs": "3"}
    final = {name: value for name, value in run.data.metrics.items() if name.startswith("test.")}
    assert final == {"test.all.auc": 0.7, "test.all.ndcg_at_10": 0.8, "test.all.f_beta_2": 0.9}
    history = client.get_metric_history(run.info.run_id, "tune_1/loss")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]


def test_nothing_without_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run_started(tmp_path, {})
    step_logged(tmp_path, "tune_1", 1, {"loss": 1.0})
    run_finished(tmp_path, RESULTS)
    assert list(tmp_path.iterdir()) == []
