"""A real worker with real trial processes, whose work is replaced by something quick."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from optuna.trial import FrozenTrial
from study_fakes import STUDY, Studies

from collm.study import processes, records
from collm.study.processes import Starter
from collm.study.worker import Worker, WorkerOptions, log_file


@pytest.fixture(autouse=True)
def light_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PRELOAD", "collm.study.child")


def run(
    studies: Studies,
    work: str,
    *,
    trials: int = 1,
    changes: str = "",
    device: str = "cpu",
    deadline: float | None = None,
) -> list[FrozenTrial]:
    ledger = studies.ledger(STUDY.replace("  trials: 6", f"  trials: {trials}\n{changes}"))
    options = WorkerOptions(studies.folder, studies.folder, work=f"trial_works:{work}")
    starter = Starter([], device=device)
    Worker(ledger, starter, options, name="search", objectives=ledger._file.objectives).run(deadline)
    return ledger.trials()


def test_a_complete_trial_keeps_value_and_facts(studies: Studies, tmp_path: Path) -> None:
    trials = run(studies, "complete", trials=2)
    assert [trial.values for trial in trials] == [[0.75], [0.75]]
    attributes = trials[0].user_attrs
    assert attributes[records.STAGES]["tune_1"]["reused"]
    assert attributes[records.RUN_DIR] == "runs/x"
    log = log_file(tmp_path, "search", 1).read_text()
    assert log == "working on trial 1 with device cpu\n"


def test_no_trial_is_started_after_the_time_is_up(studies: Studies) -> None:
    assert run(studies, "complete", trials=2, deadline=time.monotonic() - 1) == []


def test_each_trial_is_a_process_of_its_own(studies: Studies, tmp_path: Path) -> None:
    run(studies, "name_its_process", trials=3)
    numbers = {log_file(tmp_path, "search", number).read_text() for number in range(3)}
    assert len(numbers) == 3
    assert f"{os.getpid()}\n" not in numbers


def test_trials_on_cuda_are_spawned(studies: Studies, tmp_path: Path) -> None:
    (trial,) = run(studies, "complete", device="cuda:1")
    assert trial.values == [0.75]
    assert log_file(tmp_path, "search", 0).read_text() == "working on trial 0 with device cuda:1\n"


@pytest.mark.parametrize(
    ("work", "cause", "detail"),
    [
        ("no_value", "valid.auc has no value: one class only", ""),
        ("raise_error", "MemoryError: CUDA out of memory", "trial_works.py"),
        ("abort", "its process crashed with SIGABRT", "Fatal Python error: Aborted"),
        ("leave", "its process ended with exit code 3 before it reported a result", "leaving early"),
    ],
)
def test_failures_are_recorded_with_their_cause(studies: Studies, work: str, cause: str, detail: str) -> None:
    (trial,) = run(studies, work)
    assert trial.state.name == "FAIL"
    assert trial.user_attrs[records.CAUSE] == cause
    assert detail in trial.user_attrs.get(records.TRACEBACK, "")


def test_a_process_killed_from_outside_is_begun_again(studies: Studies) -> None:
    (trial,) = run(studies, "kill_itself", changes="  attempts: 2\n")
    assert trial.state.name == "FAIL"
    assert trial.user_attrs[records.ATTEMPTS] == 2
    assert trial.user_attrs[records.CAUSE].startswith("its process was killed (SIGKILL); the system kills")


def test_a_trial_is_pruned_at_a_validation(studies: Studies) -> None:
    changes = "  pruner: {name: median, startup_trials: 0}\n"
    first, second = run(studies, "prune", trials=2, changes=changes)
    # The first has nothing to be compared with and runs to its end.
    assert first.state.name == "COMPLETE"
    assert len(first.intermediate_values) < 99
    assert second.state.name in ("COMPLETE", "PRUNED")
