"""A trial's work in its own process: the run, with each validation reported to the worker."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from collm.component import BuildContext
from collm.finished import run_folder
from collm.hookspecs import hookimpl
from collm.locks import Holder, read_holder
from collm.registry import Registry, default_registry
from collm.runner import RunOptions, run_spec
from collm.runs.store import LOCK, STAGES
from collm.spec.model import ResolvedSpec
from collm.study.child import REPORT, Job, TrialPruned

# A killed worker's processes end a moment after it; until then they hold the run's lock.
_HANDOVER_S = 60.0
_POLL_S = 0.1


class Reporter:
    """An observer that sends validation values of the last training stage, and stops the trial when told to."""

    def __init__(self, connection: Connection, stage: str) -> None:
        """Takes the way to the worker and the name of the stage that is reported."""
        self._connection, self._stage = connection, stage
        self._best: float | None = None

    @hookimpl
    def step_logged(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Sends a validation AUC, the best so far, and waits for the answer."""
        value = values.get("valid_auc")
        if stage != self._stage or value is None:
            return
        self._best = value if self._best is None else max(self._best, value)
        self._connection.send((REPORT, step, self._best))
        if self._connection.recv():
            raise TrialPruned


@functools.cache
def installed() -> Registry:
    """Returns the installed components; read once per fork server."""
    return default_registry()


def work(job: Job, connection: Connection) -> dict[str, Any]:
    """Runs the spec of a trial.

    Args:
        job: What to do.
        connection: Leads to the worker.

    Returns:
        What the study keeps of `results.json`: metrics, timing, counts, the run's folder.
    """
    registry = installed()
    context = BuildContext(cache_dir=job.cache_dir, find=registry.get)
    folder = run_folder(job.spec, registry, runs_dir=job.runs_dir, context=context)
    _free_locks(job, folder.path)
    stage = reported_stage(job.spec, registry)
    if stage is not None:
        registry.host.manager.register(Reporter(connection, stage), name="study")
    options = RunOptions(job.runs_dir, job.cache_dir, device=job.device, threads=job.threads)
    results = run_spec(job.spec, registry, options).plain()
    return {key: results[key] for key in ("metrics", "timing", "counts", "run_dir", "reused")}


def reported_stage(spec: ResolvedSpec, registry: Registry) -> str | None:
    """Returns the last stage that trains, None where nothing does.

    Args:
        spec: The trial's spec.
        registry: Where the tuning strategy comes from.
    """
    if spec.tuning is None:
        return "fit_encoder"
    steps = registry.get("tuning", spec.tuning.name).load_factory()(spec.tuning).plan()
    return f"tune_{len(steps)}" if steps else None


def _free_locks(job: Job, folder: Path) -> None:
    """Waits for the trial's last process to end; removes its locks where it died on another host."""
    deadline = time.monotonic() + _HANDOVER_S
    while job.attempt > 1 and time.monotonic() < deadline:
        holder = read_holder(folder / LOCK)
        if holder is None or not _may_end(holder):
            break
        time.sleep(_POLL_S)
    here = Holder.this_process().host
    if job.previous is None or job.previous.host == here:
        return
    for lock in (folder / LOCK, *(job.runs_dir / STAGES).glob(f"*/{LOCK}")):
        with contextlib.suppress(OSError):
            holder = read_holder(lock)
            if holder is not None and holder.host == job.previous.host and holder.start >= job.previous.start:
                lock.unlink()


def _may_end(holder: Holder) -> bool:
    return holder.host == Holder.this_process().host and holder.is_alive()
