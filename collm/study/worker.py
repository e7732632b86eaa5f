"""A worker: asks for a trial, runs it in a process of its own, answers its reports, tells how it ended; again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from collm.locks import Holder
from collm.study import child, records
from collm.study.child import Job
from collm.study.ledger import BEAT_S, Claim, Ledger, Nothing
from collm.study.objective import Objective
from collm.study.processes import Running, Starter
from collm.study.records import Outcome

logger = logging.getLogger(__name__)
_POLL_S = 0.25
_IDLE_S = 0.5


@dataclass(frozen=True)
class WorkerOptions:
    """What a worker may know of the machine and of where to write.

    Attributes:
        runs_dir: Directory of run folders and stages.
        cache_dir: User cache.
        threads: Processor threads per trial; None = torch's own choice.
        work: What a trial's process calls.
    """

    runs_dir: Path
    cache_dir: Path
    threads: int | None = None
    work: str = "collm.study.trial:work"


class Worker:
    """Works through a study until nothing is left to do."""

    def __init__(
        self,
        ledger: Ledger,
        starter: Starter,
        options: WorkerOptions,
        *,
        name: str,
        objectives: tuple[Objective, ...],
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Takes the study, the starter of processes and the options; `tick` is called a few times a second."""
        self._ledger, self._starter, self._options = ledger, starter, options
        self._name, self._objectives, self._tick = name, objectives, tick

    def run(self, deadline: float | None = None) -> None:
        """Runs trials until all are finished.

        Args:
            deadline: `time.monotonic()` after which no new trial is started; None = no limit.

        Raises:
            KeyboardInterrupt: After the trial at hand was given back.
        """
        while True:
            late = deadline is not None and time.monotonic() >= deadline
            claim = self._ledger.claim(start_new=not late)
            self._tick()
            if isinstance(claim, Claim):
                self._work(claim)
            elif isinstance(claim, Nothing) and claim.over:
                return
            else:
                # Trials of other workers are under way: stay, in case one of them dies.
                time.sleep(_IDLE_S)

    def _work(self, claim: Claim) -> FrozenTrial | None:
        try:
            running = self._starter.start(self._job(claim))
            outcome = self._watch(claim, running)
        except BaseException:
            self._ledger.release(claim.number)
            raise
        return self._ledger.finish(claim.number, outcome)

    def _job(self, claim: Claim) -> Job:
        options = self._options
        return Job(
            spec=claim.spec,
            number=claim.number,
            attempt=claim.attempt,
            runs_dir=options.runs_dir,
            cache_dir=options.cache_dir,
            device=None,
            threads=options.threads,
            log=log_file(options.runs_dir, self._name, claim.number),
            work=options.work,
            previous=claim.previous,
            worker=Holder.this_process(),
        )

    def _watch(self, claim: Claim, running: Running) -> Outcome:
        start, beaten = time.monotonic(), time.monotonic()
        try:
            while True:
                if running.connection.poll(_POLL_S):
                    try:
                        message = running.connection.recv()
                    except (EOFError, ConnectionResetError):
                        return running.crashed()
                    if message[0] != child.REPORT:
                        running.process.join(_POLL_S)
                        return self._outcome(message, time.monotonic() - start)
                    self._answer(running, self._ledger.report(claim.number, message[1], message[2]))
                if time.monotonic() - beaten > BEAT_S:
                    beaten = time.monotonic()
                    self._ledger.beat(claim.number)
                self._tick()
        finally:
            if running.process.is_alive():
                running.stop()

    def _answer(self, running: Running, prune: bool) -> None:
        try:
            running.connection.send(prune)
        except (BrokenPipeError, ConnectionResetError):
            logger.debug("the trial's process ended while it was answered")

    def _outcome(self, message: tuple[Any, ...], seconds: float) -> Outcome:
        facts: dict[str, Any] = {records.SECONDS: round(seconds, 3)}
        if message[0] == child.PRUNED:
            return Outcome("pruned", cause="stopped at a validation", facts=facts)
        if message[0] == child.FAILED:
            return Outcome("failed", cause=message[1].partition("\n")[0], traceback=message[2], facts=facts)
        results = message[1]
        facts[records.RUN_DIR] = results["run_dir"]
        facts[records.STAGES] = {
            name: {"seconds": each["seconds"], "reused": each["reused"], "work_seconds": each.get("work_seconds")}
            for name, each in results["timing"].items()
        }
        try:
            values = tuple(objective.value(results) for objective in self._objectives)
        except ValueError as error:
            return Outcome("failed", cause=str(error), facts=facts)
        return Outcome("complete", values=values, facts=facts)


def log_file(runs_dir: Path, study: str, number: int) -> Path:
    """Returns the file that takes the output of a trial's process."""
    return runs_dir / "studies" / study / f"trial-{number:05d}.log"
