"""TensorBoard mirrors the events of a run, also after an interruption."""

from __future__ import annotations

from pathlib import Path

import pytest

from collm.runs.store import RunFolder
from collm_tensorboard import run_finished, run_started, step_logged

pytest.importorskip("tensorboard", reason="tensorboard is not installed (extra `trackers`)")
RESULTS = {"metrics": {"test": {"all": {"auc": {"value": 0.7}, "uauc": {"value": None}}}}}


def scalars(log: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(log))
    accumulator.Reload()
    return {
        tag: [(event.step, round(event.value, 6)) for event in accumulator.Scalars(tag)]
        for tag in accumulator.Tags()["scalars"]
    }


def log_step(folder: RunFolder, step: int, loss: float) -> None:
    folder.append_event("step_logged", stage="tune_1", step=step, values={"loss": loss})
    step_logged(folder.path, "tune_1", step, {"loss": loss})


def test_a_run_that_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLLM_TENSORBOARD", str(tmp_path / "logs"))
    folder = RunFolder(tmp_path / "runs", "mf", "01")
    for step, loss in ((1, 0.5), (2, 0.25)):
        if step == 2:
            folder.append_event("step_logged", stage="tune_1", step=step, values={"loss": loss})
            continue  # the process died before the tracker heard of it
        run_started(folder.path, {"name": "mf"})
        log_step(folder, step, loss)
    run_started(folder.path, {"name": "mf"})
    log_step(folder, 3, 0.125)
    run_finished(folder.path, RESULTS)
    assert scalars(tmp_path / "logs" / "mf-01") == {
        "tune_1/loss": [(1, 0.5), (2, 0.25), (3, 0.125)],
        "final/test.all.auc": [(0, 0.7)],
    }


def test_nothing_without_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLLM_TENSORBOARD", raising=False)
    run_started(tmp_path, {})
    step_logged(tmp_path, "tune_1", 1, {"loss": 1.0})
    run_finished(tmp_path, RESULTS)
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_runs_may_be_the_folder_of_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path / "runs", "mf", "01")
    folder.append_event("run_started")
    (folder.path / "results.json").write_text("{}")
    monkeypatch.setenv("COLLM_TENSORBOARD", str(tmp_path / "runs" / ".." / "runs"))
    before = {path.name for path in folder.path.iterdir()}
    for _ in range(2):
        run_started(run_dir=folder.path, spec={"name": "mf"})
    assert {path.name for path in folder.path.iterdir()} == before | {"tensorboard"}


def test_only_logs_are_removed_from_a_folder_of_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path / "runs", "mf", "01")
    folder.append_event("run_started")
    monkeypatch.setenv("COLLM_TENSORBOARD", str(tmp_path / "logs"))
    kept = tmp_path / "logs" / folder.path.name / "thesis.tex"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    run_started(run_dir=folder.path, spec={"name": "mf"})
    assert kept.read_text() == "mine"
