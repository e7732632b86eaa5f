"""The loop of one command on a study: takes trials, runs each in a process of its own, stores how it ended."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path
from threading import Event, current_thread, main_thread
from types import FrameType
from typing import Any

from collm.errors import CollmError, RunError
from collm.runs.environment import UNRECORDED, Provenance
from collm.runs.records import RunOutcome
from collm.study import records
from collm.study.records import ClaimedTrial, Outcome
from collm.study.study_file import Objective
from collm.study.trial_process import (
    FAILED,
    PRUNED,
    TrialProcess,
    count_cuda_devices,
    start_context,
)
from collm.study.trial_queue import TrialQueue
from collm.study.trial_run import REPORT, Job, Work, run_trial

_POLL_S = 0.25
BEAT_S = 20.0
# Between two looks for a trial where there was none; other commands may be killed meanwhile.
_IDLE_S = 0.5


@dataclass(frozen=True)
class StudyOptions:
    """What one `collm study run` uses of its machine.

    Attributes:
        runs_dir: Directory of run folders and stages.
        cache_dir: User cache.
        threads: Processor threads per trial; None = torch's own choice.
        device: Device name; None = CUDA devices in turn where there are any, else the processor.
        workers: Trials that run at once.
        provenance: How the command was started.
    """

    runs_dir: Path
    cache_dir: Path
    threads: int | None = None
    device: str | None = None
    workers: int = 1
    provenance: Provenance = UNRECORDED


@contextlib.contextmanager
def interrupts() -> Iterator[Event]:
    """Remembers Ctrl-C: Python drops the exception where it falls into a callback of the interpreter."""
    seen = Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        seen.set()
        signal.default_int_handler(number, frame)

    if current_thread() is not main_thread() or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield seen
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


class StudyRunner:
    """Keeps up to `workers` trials running until nothing is left to do."""

    def __init__(
        self,
        queue: TrialQueue,
        options: StudyOptions,
        work: Work = run_trial,
        *,
        modules: Sequence[str] = (),
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Takes the queue, what the fork server loads beforehand, and what is called a few times a second."""
        self._queue, self._options, self._work, self._tick = queue, options, work, tick
        self._name = queue.study.study_name
        self._modules = modules
        self._context: Any = None
        self._devices: list[str] = []
        # By the number of its place among the workers, which decides its CUDA device.
        self._running: dict[int, TrialProcess] = {}
        self._beaten = time.monotonic()

    def run(self, deadline: float | None = None) -> None:
        """Runs trials until all are finished.

        Args:
            deadline: `time.monotonic()` after which no new trial is started; None = no limit.

        Raises:
            RunError: If a trial cannot be begun; those that run are finished before.
            KeyboardInterrupt: After the running trials were released.
        """
        with interrupts() as interrupted:
            self._run(deadline, interrupted)

    def _run(self, deadline: float | None, interrupted: Event) -> None:
        failure: CollmError | None = None
        next_look = 0.0
        try:
            while True:
                if interrupted.is_set():
                    raise KeyboardInterrupt
                if failure is None and len(self._running) < self._options.workers and time.monotonic() >= next_look:
                    late = deadline is not None and time.monotonic() >= deadline
                    try:
                        found = self._queue.claim(start_new=not late)
                    except CollmError as error:
                        failure = error
                        continue
                    if isinstance(found, ClaimedTrial):
                        self._start(found)
                        continue
                    if found.over:
                        return
                    next_look = time.monotonic() + _IDLE_S
                if failure is not None and not self._running:
                    raise failure
                if self._watch():
                    next_look = 0.0
                self._tick()
        finally:
            self._stop()

    def _start(self, claimed: ClaimedTrial) -> None:
        options = self._options
        slot = next(slot for slot in range(options.workers) if slot not in self._running)
        try:
            if self._context is None:
                self._prepare()
            job = Job(
                claimed,
                runs_dir=options.runs_dir,
                cache_dir=options.cache_dir,
                device=self._devices[slot % len(self._devices)],
                threads=options.threads,
                log=log_file(options.runs_dir, self._name, claimed.number),
                provenance=options.provenance,
            )
            self._running[slot] = TrialProcess(job, self._context, self._work)
        except BaseException:
            self._queue.release(claimed.number)
            raise

    def _prepare(self) -> None:
        """Chooses devices and how processes start, before the first trial."""
        device = self._options.device
        self._context = start_context(device, self._modules)
        self._devices = [device or "cpu"]
        if device is None and (n_devices := count_cuda_devices(self._context)):
            self._devices = [f"cuda:{index}" for index in range(n_devices)]
            self._context = start_context(self._devices[0], self._modules)

    def _watch(self) -> bool:
        """Waits a moment for messages of the trials and handles them; whether a trial ended."""
        if not self._running:
            time.sleep(_POLL_S)
        ready = wait([trial.connection for trial in self._running.values()], _POLL_S) if self._running else []
        ended = False
        for slot, trial in list(self._running.items()):
            if trial.connection in ready:
                ended = self._handle(slot, trial) or ended
        ended = self._end_late_trials() or ended
        if time.monotonic() - self._beaten > BEAT_S:
            self._beaten = time.monotonic()
            self._beat()
        return ended

    def _beat(self) -> None:
        self._queue.beat({trial.number: trial.seconds for trial in self._running.values()})

    def _end_late_trials(self) -> bool:
        """Ends trials that are over `study.trial_minutes`; whether there was one."""
        minutes = self._queue.trial_minutes
        if minutes is None:
            return False
        late = {slot for slot, each in self._running.items() if time.monotonic() - each.started > minutes * 60}
        ended = False
        for slot in late:
            trial = self._running[slot]
            # Its result may have come meanwhile: a trial that made it counts.
            if trial.connection.poll():
                continue
            trial.terminate()
            trial.join(0)
            del self._running[slot]
            cause = f"over its time: ended after {minutes:g} minutes (study.trial_minutes); its stages are kept"
            self._queue.finish(trial.number, Outcome("failed", cause=cause, facts={records.SECONDS: trial.seconds}))
            ended = True
        return ended

    def _handle(self, slot: int, trial: TrialProcess) -> bool:
        message = trial.receive()
        if message is not None and message[0] == REPORT:
            trial.answer(self._queue.report(trial.number, message[1], message[2]))
            return False
        facts = {records.SECONDS: trial.seconds}
        outcome = replace(trial.crash(), facts=facts) if message is None else self._outcome(message, facts)
        trial.join()
        del self._running[slot]
        self._queue.finish(trial.number, outcome)
        return True

    def _outcome(self, message: tuple[Any, ...], facts: dict[str, Any]) -> Outcome:
        if message[0] == PRUNED:
            return Outcome("pruned", cause="stopped at a validation", facts=facts)
        if message[0] == FAILED:
            return Outcome("failed", cause=message[1].partition("\n")[0], traceback=message[2], facts=facts)
        return _measured(message[1], self._queue.objectives, facts)

    def _stop(self) -> None:
        """Ends the running trials and releases them; the storage may be what failed."""
        for trial in self._running.values():
            trial.terminate()
        with contextlib.suppress(RunError):
            self._beat()
        for trial in self._running.values():
            trial.join()
            with contextlib.suppress(RunError):
                self._queue.release(trial.number)
        self._running.clear()


def _measured(outcome: RunOutcome, objectives: tuple[Objective, ...], facts: dict[str, Any]) -> Outcome:
    facts[records.RUN_DIR] = str(outcome.folder)
    facts[records.STAGES] = {
        name: {"seconds": each.seconds, "reused": each.reused, "work_seconds": each.work_seconds}
        for name, each in outcome.results.timing.items()
    }
    try:
        values = tuple(objective.value(outcome.results) for objective in objectives)
    except ValueError as error:
        return Outcome("failed", cause=str(error), facts=facts)
    return Outcome("complete", values=values, facts=facts)


def log_file(runs_dir: Path, study: str, number: int) -> Path:
    """Returns the file that takes the output of a trial's process."""
    return runs_dir / "studies" / study / f"trial-{number:05d}.log"
