"""The time limit of a trial: its process is ended, the trial is failed with the reason, the study goes on."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import trial_works
from study_fakes import STUDY, Studies

from collm.study import records
from collm.study.trial_runner import StudyOptions, StudyRunner, log_file


def run(studies: Studies, work: str, *, minutes: float, workers: int = 1, trials: int = 2) -> StudyRunner:
    queue = studies.queue(STUDY.replace("  trials: 6", f"  trials: {trials}\n  trial_minutes: {minutes}"))
    options = StudyOptions(studies.folder, studies.folder, device="cpu", workers=workers)
    made = StudyRunner(queue, options, getattr(trial_works, work))
    made.run()
    return made


def test_a_late_trial_is_failed_and_the_next_one_starts(studies: Studies, tmp_path: Path) -> None:
    started = time.monotonic()
    runner = run(studies, "first_one_hangs", minutes=0.1)
    assert time.monotonic() - started < 60
    late, next_one = runner._queue.trials()
    assert late.state.name == "FAIL"
    assert late.user_attrs[records.CAUSE] == (
        "over its time: ended after 0.1 minutes (study.trial_minutes); its stages are kept"
    )
    assert 6 <= late.user_attrs[records.SECONDS] < 30
    assert records.attempts_of(late) == 1
    assert next_one.values == [0.75]
    pid = int(log_file(tmp_path, "search", 0).read_text())
    assert not psutil.pid_exists(pid)


def test_a_trial_that_ignores_the_signal_is_killed(studies: Studies, tmp_path: Path) -> None:
    (trial,) = run(studies, "ignore_the_end", minutes=0.1, trials=1)._queue.trials()
    assert trial.state.name == "FAIL"
    assert not psutil.pid_exists(int(log_file(tmp_path, "search", 0).read_text()))


def test_a_trial_within_its_time_counts(studies: Studies) -> None:
    trials = run(studies, "take_a_moment", minutes=1, workers=2)._queue.trials()
    assert [trial.values for trial in trials] == [[0.75], [0.75]]
