"""What a trial's process reports, and what it does about locks that its predecessor left."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from study_fakes import Studies

from collm.errors import RunError
from collm.locks import Holder
from collm.registry import Registry
from collm.runs.store import LOCK, STAGES, RunFolder
from collm.study.records import ClaimedTrial
from collm.study.trial_process import TrialProcess, count_cuda_devices
from collm.study.trial_run import REPORT, Job, Reporter, TrialPruned, free_locks, reported_stage, run_trial

TUNED = "backbone: {name: tiny}\nprompt: {name: movie}\ntuning: {name: NAME}\n"
SEEDS = "name: search\nbase: base.yaml\nstudy:\n  objective: valid.auc\n  trials: 2\n  search: {seed: [0, 1]}\n"
ELSEWHERE = Holder(pid=1, host="another-machine", start=100.0)


class FakeConnection:
    """The way to a worker that stops the trial at its n-th report."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.stop_at = stop_at

    def send(self, message: tuple[Any, ...]) -> None:
        self.sent.append(message)

    def recv(self) -> bool:
        return len(self.sent) == self.stop_at


def test_the_best_value_of_the_last_stage_is_reported() -> None:
    connection = FakeConnection()
    reporter = Reporter(connection, "tune_2")  # type: ignore[arg-type]
    reporter.step_logged("tune_1", 10, {"valid_auc": 0.9})
    for step, value in ((10, 0.6), (20, 0.5), (30, 0.7)):
        reporter.step_logged("tune_2", step, {"valid_auc": value})
    reporter.step_logged("tune_2", 31, {"loss": 0.7})
    assert connection.sent == [(REPORT, 10, 0.6), (REPORT, 20, 0.6), (REPORT, 30, 0.7)]


def test_a_report_may_end_the_trial() -> None:
    reporter = Reporter(FakeConnection(stop_at=2), "tune_1")  # type: ignore[arg-type]
    reporter.step_logged("tune_1", 10, {"valid_auc": 0.6})
    with pytest.raises(TrialPruned):
        reporter.step_logged("tune_1", 20, {"valid_auc": 0.6})


@pytest.mark.parametrize(
    ("tuning", "stage"), [(None, "fit_encoder"), ("default", "tune_2"), ("text-only", "tune_1"), ("none", None)]
)
def test_the_last_stage_that_trains(
    studies: Studies, installed: Registry, tuning: str | None, stage: str | None
) -> None:
    base = "name: base\ndataset: {name: movielens-small, path: data}\n"
    base += "encoder: {name: mf-bias}\n" if tuning in (None, "default") else ""
    base += TUNED.replace("NAME", tuning) if tuning is not None else ""
    (studies.folder / "base.yaml").write_text(base, encoding="utf-8")
    checked = studies.check(SEEDS)
    assert reported_stage(checked.trial(checked.file.space.first()), installed) == stage


def job(studies: Studies, previous: Holder | None) -> Job:
    checked = studies.check()
    return Job(
        ClaimedTrial(0, checked.trial(checked.file.space.first()), attempt=2, previous=previous),
        runs_dir=studies.folder / "runs",
        cache_dir=studies.folder,
        device="cpu",
        threads=1,
        log=studies.folder / "log",
    )


def lock(folder: Path, holder: Holder) -> Path:
    folder.mkdir(parents=True)
    path = folder / LOCK
    path.write_text(json.dumps(asdict(holder)), encoding="utf-8")
    return path


def test_locks_of_a_trial_that_died_on_another_host_are_removed(studies: Studies) -> None:
    again = job(studies, ELSEWHERE)
    folder = RunFolder(again.runs_dir, again.trial.spec.name, again.trial.spec.spec_hash).path
    stages = again.runs_dir / STAGES
    its_own = [lock(folder, ELSEWHERE), lock(stages / "fit_encoder-1", Holder(2, ELSEWHERE.host, start=200.0))]
    others = [
        lock(stages / "fit_encoder-2", Holder(2, ELSEWHERE.host, start=50.0)),
        lock(stages / "fit_encoder-3", Holder(2, "third-machine", start=200.0)),
    ]
    free_locks(again, folder)
    assert not any(path.exists() for path in its_own)
    # They began before it, or run elsewhere: not what it left behind.
    assert all(path.exists() for path in others)


def test_locks_stay_where_nobody_died_on_another_host(studies: Studies) -> None:
    again = job(studies, None)
    folder = RunFolder(again.runs_dir, again.trial.spec.name, again.trial.spec.spec_hash).path
    held = lock(folder, ELSEWHERE)
    free_locks(again, folder)
    assert held.exists()


class KilledServer:
    """A way to start processes whose server was killed meanwhile."""

    Pipe = staticmethod(multiprocessing.Pipe)

    def Process(self, **_: Any) -> KilledServer:
        return self

    def start(self) -> None:
        raise EOFError("unexpected EOF")


def test_a_killed_fork_server_is_named(studies: Studies) -> None:
    said = "the process that trials are started from was killed.*fewer --workers"
    with pytest.raises(RunError, match=said):
        count_cuda_devices(KilledServer())
    with pytest.raises(RunError, match=said):
        TrialProcess(job(studies, None), KilledServer(), run_trial)
