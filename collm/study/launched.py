"""Workers of a study that a launcher starts: each is `collm study run` on the shared storage, which deals out trials.

What holds for several commands on one study holds for workers: no point is begun twice, and the others continue the
trials of a worker that is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from collm.errors import RunError, UsageError
from collm.launch.attempt import Attempt, how_ended, log_end
from collm.launch.launcher import Ended, Launcher, Started
from collm.launch.runs import LAUNCHED
from collm.locks import Holder
from collm.study.progress import StudyProgress, say_lines
from collm.study.trial_queue import TrialQueue


@dataclass(frozen=True)
class WorkersRequest:
    """What the workers of a study are made of.

    Attributes:
        words: The words of one worker's command after `collm`, without its device and threads.
        make: Makes the launcher for so many workers at most.
        number: Workers; None = as many as the launcher has room for.
        runs_dir: Directory of run folders and stages.
        folder: Working directory.
        variables: Environment variables of the workers.
    """

    words: tuple[str, ...]
    make: Callable[[int], Launcher]
    number: int | None
    runs_dir: Path
    folder: Path
    variables: Mapping[str, str]

    def attempts(self, study: str, n_workers: int) -> list[Attempt]:
        """Returns the commands of the workers; their logs are those of this command alone."""
        here, runs_dir = Holder.this_process(), self.runs_dir.absolute()
        logs = runs_dir / LAUNCHED / f"{study}-{here.host}-{here.pid}"
        return [
            Attempt(
                f"worker {number}", self.words, logs / f"worker-{number}.log", runs_dir, self.folder, self.variables
            )
            for number in range(1, n_workers + 1)
        ]


def run_workers(queue: TrialQueue, request: WorkersRequest, progress: StudyProgress) -> None:
    """Starts workers for the trials that are missing, and follows them until all have ended.

    Args:
        queue: The study, which is in its storage.
        request: What the workers are made of.
        progress: Shows the study meanwhile.

    Raises:
        UsageError: If workers may be on several machines, and the storage is for one.
        RunError: If workers failed and trials are left.
        KeyboardInterrupt: After the workers were ended, which release their trials.
    """
    if not (n_missing := _n_missing(queue)):
        return
    launcher = request.make(n_missing)
    try:
        address = queue.checked.file.storage
        if address.kind != "postgresql" and launcher.several_machines():
            raise UsageError(
                f"study.storage: {address} is for processes of one machine, and --launcher may put workers on several; "
                "use postgresql://USER@HOST/DATABASE"
            )
        n_workers = min(n_missing, request.number or launcher.free())
        failed = _follow(launcher, request.attempts(queue.checked.file.name, n_workers), queue, progress)
    finally:
        launcher.stop()
    if failed and (n_missing := _n_missing(queue)):
        raise RunError(
            f"{n_missing} of {queue.total} trials are not finished, and {len(failed)} of {n_workers} workers failed: "
            f"{'; '.join(failed.values())}. Finished trials are kept; the same command goes on"
        )


def _follow(launcher: Launcher, attempts: list[Attempt], queue: TrialQueue, progress: StudyProgress) -> dict[str, str]:
    """Follows workers to their end; returns name -> what happened of those that failed."""
    name, left = queue.checked.file.name, {attempt.name: attempt for attempt in attempts}
    say_lines(name, [f"{len(left)} workers: {launcher.describe()}"])
    for attempt in attempts:
        attempt.forget()
    failed: dict[str, str] = {}
    launcher.start(attempts)
    while left:
        for event in launcher.watch():
            if isinstance(event, Started):
                say_lines(name, [f"{event.name}: started on {event.where}"])
                continue
            attempt = left.pop(event.name)
            # A worker of a study none of whose trials was completed says so by its exit code.
            if event.code == 0 or (event.code == RunError.exit_code and not _n_missing(queue)):
                say_lines(name, [f"{event.name}: ended, nothing is left for it"])
                continue
            failed[event.name] = _failure(event, attempt)
            others = "; its trials go to the others" if left else ""
            say_lines(name, [f"{failed[event.name]}{others}", *(f"  {line}" for line in log_end(attempt.log))])
        progress.tick()
    return failed


def _failure(ended: Ended, attempt: Attempt) -> str:
    return f"{ended.name}: {ended.problem or how_ended(ended.code)}, log {attempt.log}"


def _n_missing(queue: TrialQueue) -> int:
    n_finished: int = sum(trial.state.is_finished() for trial in queue.trials())
    return queue.total - n_finished
