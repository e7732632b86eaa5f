"""What the process of a trial does: it takes over the trial's locks, runs its spec and reports validations."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from collm.component import BuildContext
from collm.finished import run_folder
from collm.hookspecs import hookimpl
from collm.locks import Holder, read_holder
from collm.registry import Registry, default_registry
from collm.runs.environment import UNRECORDED, Provenance, RunOptions
from collm.runs.records import RunOutcome
from collm.runs.store import LOCK, STAGES
from collm.spec.model import ResolvedSpec
from collm.study.records import ClaimedTrial

# The kind of message that brings a validation value.
REPORT = "report"
# Processes of a killed command end a moment after it; until then they hold the run's lock.
_HANDOVER_S = 60.0
_POLL_S = 0.1


class TrialPruned(BaseException):
    """Ends a trial at a validation point.

    Not an `Exception`: it passes from an observer through the run, as an interrupt does.
    """


@dataclass(frozen=True)
class Job:
    """Everything that a trial's process needs.

    Attributes:
        trial: The trial and its spec.
        runs_dir: Directory of run folders and stages.
        cache_dir: User cache.
        device: Device name.
        threads: Processor threads; None = torch's own choice.
        log: File that takes the process's output.
        provenance: How the command was started.
    """

    trial: ClaimedTrial
    runs_dir: Path
    cache_dir: Path
    device: str
    threads: int | None
    log: Path
    provenance: Provenance = UNRECORDED


# Runs a job and returns the results of its run; the connection leads to the command.
Work = Callable[[Job, Connection], RunOutcome]


def run_trial(job: Job, connection: Connection) -> RunOutcome:
    """Runs the spec of a trial; each validation is reported.

    Returns:
        The finished run.
    """
    # Imported here, in the trial's process, because it loads torch.
    from collm.runner import run_spec

    registry = default_registry()
    context = BuildContext(cache_dir=job.cache_dir, find=registry.get)
    free_locks(job, run_folder(job.trial.spec, registry, runs_dir=job.runs_dir, context=context).path)
    stage = reported_stage(job.trial.spec, registry)
    if stage is not None:
        registry.host.manager.register(Reporter(connection, stage), name="study")
    options = RunOptions(job.runs_dir, job.cache_dir, device=job.device, threads=job.threads, provenance=job.provenance)
    return run_spec(job.trial.spec, registry, options)


class Reporter:
    """An observer that sends validation values of the last training stage and stops the trial on demand."""

    def __init__(self, connection: Connection, stage: str) -> None:
        """Takes the connection to the command and the name of the stage that is reported."""
        self._connection, self._stage = connection, stage
        self._best: float | None = None

    @hookimpl
    def step_logged(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Sends the best validation AUC so far and waits for the answer."""
        value = values.get("valid_auc")
        if stage != self._stage or value is None:
            return
        self._best = value if self._best is None else max(self._best, value)
        self._connection.send((REPORT, step, self._best))
        if self._connection.recv():
            raise TrialPruned


def reported_stage(spec: ResolvedSpec, registry: Registry) -> str | None:
    """Returns the last stage that trains, None where no stage does."""
    if spec.tuning is None:
        return "fit_encoder"
    steps = registry.get("tuning", spec.tuning.name).load_factory()(spec.tuning).plan()
    return f"tune_{len(steps)}" if steps else None


def free_locks(job: Job, folder: Path) -> None:
    """Waits for the trial's last process to end; removes its locks where it died on another host."""
    here, previous = Holder.this_process().host, job.trial.previous
    deadline = time.monotonic() + _HANDOVER_S
    while job.trial.attempt > 1 and time.monotonic() < deadline:
        holder = read_holder(folder / LOCK)
        if holder is None or holder.host != here or not holder.is_alive():
            break
        time.sleep(_POLL_S)
    if previous is None or previous.host == here:
        return
    for lock in (folder / LOCK, *(job.runs_dir / STAGES).glob(f"*/{LOCK}")):
        with contextlib.suppress(OSError):
            holder = read_holder(lock)
            if holder is not None and holder.host == previous.host and holder.start >= previous.start:
                lock.unlink()
