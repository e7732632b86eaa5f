"""Real trial processes, whose work is replaced by something quick."""

from __future__ import annotations

import os
import signal
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import trial_works
from optuna.trial import FrozenTrial
from study_fakes import STUDY, Studies

from collm.errors import RunError
from collm.study import records
from collm.study.records import ClaimedTrial, Outcome
from collm.study.trial_queue import TrialQueue
from collm.study.trial_runner import StudyOptions, StudyRunner, interrupts, log_file


def runner(
    studies: Studies,
    work: str,
    *,
    trials: int = 1,
    changes: str = "",
    device: str = "cpu",
    workers: int = 1,
    tick: Callable[[], None] = lambda: None,
) -> tuple[StudyRunner, TrialQueue]:
    queue = studies.queue(STUDY.replace("  trials: 6", f"  trials: {trials}\n{changes}"))
    options = StudyOptions(studies.folder, studies.folder, device=device, workers=workers)
    return StudyRunner(queue, options, getattr(trial_works, work), tick=tick), queue


def run(
    studies: Studies,
    work: str,
    *,
    trials: int = 1,
    changes: str = "",
    device: str = "cpu",
    workers: int = 1,
    deadline: float | None = None,
) -> list[FrozenTrial]:
    made, queue = runner(studies, work, trials=trials, changes=changes, device=device, workers=workers)
    made.run(deadline)
    return queue.trials()


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


def test_the_seconds_of_a_trial_are_those_of_all_attempts(studies: Studies) -> None:
    made, queue = runner(studies, "complete")
    first = queue.claim()
    assert isinstance(first, ClaimedTrial)
    killed = Outcome("killed", cause="its process was killed (SIGKILL)", facts={records.SECONDS: 1000.0})
    assert queue.finish(first.number, killed) is None
    made.run()
    (trial,) = queue.trials()
    assert trial.state.name == "COMPLETE"
    assert 1000 < trial.user_attrs[records.SECONDS] < 1600


def test_a_trial_is_pruned_at_a_validation(studies: Studies) -> None:
    changes = "  pruner: {name: median, startup_trials: 0}\n"
    first, second = run(studies, "prune", trials=2, changes=changes)
    # The first has nothing to be compared with and runs to its end.
    assert first.state.name == "COMPLETE"
    assert len(first.intermediate_values) < 99
    assert second.state.name in ("COMPLETE", "PRUNED")


def test_as_many_trials_as_workers_run_at_once(studies: Studies, tmp_path: Path) -> None:
    trials = run(studies, "overlap", trials=2, workers=2, device="cpu")
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 2
    assert all(log_file(tmp_path, "search", number).read_text() == "device cpu, 2 begun\n" for number in range(2))


def begun(folder: Path) -> bool:
    return log_file(folder, "search", 0).exists() and log_file(folder, "search", 1).exists()


def test_an_interrupt_ends_the_processes_and_releases_their_trials(studies: Studies, tmp_path: Path) -> None:
    children: list[psutil.Process] = []

    def interrupt() -> None:
        if begun(tmp_path):
            # Trials are children of the fork server, which is a child of this process.
            children.extend(each for server in psutil.Process().children() for each in server.children())
            raise KeyboardInterrupt

    made, queue = runner(studies, "sleep", trials=2, workers=2, tick=interrupt)
    with pytest.raises(KeyboardInterrupt):
        made.run()
    for trial in queue.trials():
        assert trial.state.name == "RUNNING"
        assert trial.user_attrs[records.OWNER] is None
        assert records.attempts_of(trial) == 0
        assert trial.user_attrs[records.SECONDS] > 0
    assert len(children) == 2
    _, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []


def test_trials_that_run_are_finished_when_no_other_can_be_begun(studies: Studies, tmp_path: Path) -> None:
    made, queue = runner(studies, "take_a_moment", trials=3)
    data = studies.folder / "data" / "ratings.csv"

    def change() -> None:
        if log_file(tmp_path, "search", 0).exists():
            data.write_text("other contents", encoding="utf-8")

    made._tick = change
    with pytest.raises(RunError, match="changed since the study was begun"):
        made.run()
    assert queue.trials()[0].state.name == "COMPLETE"


def test_a_finished_study_starts_nothing(studies: Studies) -> None:
    assert len(run(studies, "complete", trials=2)) == 2
    assert [trial.state.name for trial in run(studies, "raise_error", trials=2)] == ["COMPLETE"] * 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_that_python_drops_is_remembered() -> None:
    """What a callback of the interpreter raises is printed and dropped, KeyboardInterrupt among it."""

    class Watched:
        pass

    watched = Watched()
    reference = weakref.ref(watched, lambda _: signal.raise_signal(signal.SIGINT))
    # A shell starts what it puts into the background with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with interrupts() as seen:
            assert not seen.is_set()
            del watched
            assert seen.is_set()
        assert reference() is None
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
