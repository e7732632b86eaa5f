"""Workers of a study that a launcher starts: how many, what they are told, and what becomes of those that fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from study_fakes import STUDY, Studies

from collm.errors import RunError, UsageError
from collm.launch.attempt import Attempt
from collm.launch.launcher import Ended, Started
from collm.study.launched import WorkersRequest, run_workers
from collm.study.progress import StudyProgress
from collm.study.records import ClaimedTrial, Outcome
from collm.study.trial_queue import TrialQueue


class Pretended:
    """Starts nothing: each worker finishes as many trials as it is told to, and ends with a code."""

    def __init__(self, queue: TrialQueue, *workers: tuple[int, int | None], several: bool = False) -> None:
        self.queue, self.workers, self.several = queue, workers, several
        self.attempts: list[Attempt] = []
        self.most, self.n_stopped = 0, 0

    def make(self, most: int) -> Pretended:
        self.most = most
        return self

    def describe(self) -> str:
        return "on paper"

    def free(self) -> int:
        return len(self.workers)

    def several_machines(self) -> bool:
        return self.several

    def start(self, attempts: Sequence[Attempt]) -> None:
        self.attempts += attempts

    def watch(self) -> list[Started | Ended]:
        events: list[Started | Ended] = []
        for attempt, (n_trials, code) in zip(self.attempts, self.workers, strict=False):
            events.append(Started(attempt.name, "paper"))
            for _ in range(n_trials):
                finish_one(self.queue)
            events.append(Ended(attempt.name, code))
        return events

    def stop(self) -> None:
        self.n_stopped += 1


def finish_one(queue: TrialQueue) -> None:
    claimed = queue.claim()
    assert isinstance(claimed, ClaimedTrial)
    queue.finish(claimed.number, Outcome("complete", values=(0.5,)))


@pytest.fixture
def queue(studies: Studies) -> TrialQueue:
    return studies.queue(STUDY.replace("trials: 6", "trials: 3"))


@pytest.fixture
def follow(queue: TrialQueue, tmp_path: Path) -> Callable[[Pretended, int | None], None]:
    def work(launcher: Pretended, number: int | None = None) -> None:
        request = WorkersRequest(("study", "run", "x.yaml"), launcher.make, number, tmp_path / "runs", tmp_path, {})
        run_workers(queue, request, StudyProgress(queue, workers=1))

    return work


def test_no_more_workers_than_trials_are_missing(queue: TrialQueue, follow) -> None:
    finish_one(queue)
    launcher = Pretended(queue, (1, 0), (1, 0))
    follow(launcher, 9)
    assert (launcher.most, len(launcher.attempts), launcher.n_stopped) == (2, 2, 1)
    assert [trial.state.name for trial in queue.trials()] == ["COMPLETE"] * 3
    assert [attempt.words for attempt in launcher.attempts] == [("study", "run", "x.yaml")] * 2
    assert len({attempt.log for attempt in launcher.attempts}) == 2


def test_the_launcher_decides_where_no_number_is_given(queue: TrialQueue, follow) -> None:
    launcher = Pretended(queue, (3, 0))
    follow(launcher, None)
    assert len(launcher.attempts) == 1


def test_nothing_is_launched_where_nothing_is_missing(queue: TrialQueue, follow) -> None:
    for _ in range(3):
        finish_one(queue)
    launcher = Pretended(queue)
    follow(launcher, 2)
    assert (launcher.attempts, launcher.n_stopped) == ([], 0)


def test_a_worker_that_is_lost_leaves_its_trials_to_the_others(queue: TrialQueue, follow, capsys) -> None:
    launcher = Pretended(queue, (1, -9), (2, 0))
    follow(launcher, 2)
    said = capsys.readouterr().err
    assert "search: 2 workers: on paper" in said
    assert "worker 1: killed (SIGKILL)" in said
    assert "its trials go to the others" in said
    assert "worker 2: ended, nothing is left for it" in said


def test_trials_that_are_left_are_an_error(queue: TrialQueue, follow) -> None:
    launcher = Pretended(queue, (1, 1), (1, None))
    with pytest.raises(
        RunError, match=r"1 of 3 trials are not finished, and 2 of 2 workers failed: .*exit code 1"
    ) as e:
        follow(launcher, 2)
    assert "worker 2: lost: its process or machine was killed" in str(e.value)
    assert launcher.n_stopped == 1


def test_a_worker_that_ends_with_the_study_is_not_a_failure(queue: TrialQueue, follow, capsys) -> None:
    follow(Pretended(queue, (3, 1)), 1)
    assert "worker 1: ended, nothing is left for it" in capsys.readouterr().err


def test_time_that_is_up_is_no_error(queue: TrialQueue, follow) -> None:
    follow(Pretended(queue, (1, 0)), 1)
    assert len(queue.trials()) == 1


def test_a_journal_is_for_one_machine(queue: TrialQueue, follow) -> None:
    launcher = Pretended(queue, (3, 0), several=True)
    with pytest.raises(UsageError, match=r"study.storage: journal:.*studies.log is for processes of one machine"):
        follow(launcher, 1)
    assert (launcher.attempts, launcher.n_stopped) == ([], 1)
