"""Runs a study: in this process with one worker, else with several, which are started again when they are killed."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from collm.component import BuildContext
from collm.errors import CollmError, RunError, SpecError
from collm.locks import Holder
from collm.look import look_around
from collm.registry import Registry, default_registry
from collm.runs.parent import end_with_parent
from collm.spec.model import COMPONENT_SECTIONS
from collm.study.check import CheckedStudy, check_study, probed_specs
from collm.study.child import end_with
from collm.study.definition import open_study
from collm.study.ledger import Ledger
from collm.study.processes import LOST, Starter, fork_server, start_process
from collm.study.progress import StudyProgress
from collm.study.storage import StudyStorage
from collm.study.study_file import read_study
from collm.study.worker import Worker, WorkerOptions

# A worker that dies this often is not started again: something is wrong with the machine, not with a trial.
_RESTARTS = 20
_LOOK_S = 0.5
_STOP_S = 30.0


@dataclass(frozen=True)
class StudyRequest:
    """One `collm study run`: what a worker needs to read the study for itself.

    Attributes:
        path: The study file.
        overrides: `path=value` texts of `--set`.
        cwd: Folder that relative locations in `overrides` resolve against.
        options: Directories and threads.
        device: Device name; None = CUDA devices in turn where there are any, else the processor.
        workers: Local workers.
    """

    path: Path
    overrides: tuple[str, ...]
    cwd: Path
    options: WorkerOptions
    device: str | None = None
    workers: int = 1


def load_study_file(request: StudyRequest, registry: Registry) -> CheckedStudy:
    """Reads and checks the study of a request.

    Raises:
        SpecError: With every problem of the file and its search space.
    """
    file = read_study(request.path, request.overrides, registry, cwd=request.cwd, runs_dir=request.options.runs_dir)
    if file.storage.kind == "sqlite" and request.workers > 1:
        message = "sqlite is for one worker: use journal:PATH on one machine, postgresql:// on several"
        raise SpecError([file.node.nearest(("storage",)).place.problem(message, "study.storage")])
    context = BuildContext(cache_dir=request.options.cache_dir, find=registry.get)
    return check_study(file, registry, context)


def run_study(
    checked: CheckedStudy, request: StudyRequest, registry: Registry, *, opened: Callable[[], None] = lambda: None
) -> Ledger:
    """Runs the trials that are missing.

    Args:
        checked: The study.
        request: Directories, device, workers.
        registry: Where components come from.
        opened: Called when the storage was opened.

    Returns:
        The study's ledger, all of whose trials are finished, or whose time is up.

    Raises:
        SpecError: If files that a trial names are missing, or the storage holds another study of this name.
        RunError: If workers keep dying.
    """
    # Showing a study needs no data; running one does.
    if problems := look_around(probed_specs(checked), registry, checked.specs.context):
        raise SpecError(problems)
    ledger = open_ledger(checked)
    opened()
    hours = checked.file.section.hours
    deadline = None if hours is None else time.monotonic() + hours * 3600
    progress = StudyProgress(checked.file.name, ledger.total, checked.file.objectives, workers=request.workers)
    progress.start(ledger.trials())
    with progress:

        def look() -> None:
            if progress.due:
                progress.show(ledger.trials())

        if request.workers == 1:
            _worker(checked, request, ledger, registry, slot=0, tick=look).run(deadline)
        else:
            _supervise(request, _modules(checked, registry), deadline=deadline, look=look)
        progress.show(ledger.trials())
    return ledger


def open_ledger(checked: CheckedStudy) -> Ledger:
    """Opens the storage and the study in it.

    Raises:
        SpecError: If the storage holds another study of this name.
        RunError: If the storage cannot be reached.
    """
    storage = StudyStorage(checked.file.storage)
    return Ledger(checked, storage, open_study(checked, storage))


def _worker(
    checked: CheckedStudy,
    request: StudyRequest,
    ledger: Ledger,
    registry: Registry,
    *,
    slot: int,
    tick: Callable[[], None] = lambda: None,
) -> Worker:
    starter = Starter(_modules(checked, registry), device=request.device, slot=slot)
    return Worker(
        ledger, starter, request.options, name=checked.file.name, objectives=checked.file.objectives, tick=tick
    )


def _modules(checked: CheckedStudy, registry: Registry) -> list[str]:
    """Modules of the components that trials build, for the fork server to load once."""
    spec = checked.specs.trial(checked.file.space.first())
    named = {(kind, config.name) for kind in COMPONENT_SECTIONS if (config := getattr(spec, kind)) is not None}
    for parameter in checked.file.space.all():
        if parameter.parts[-1] == "name" and len(parameter.parts) == 2:
            named |= {(parameter.parts[0], str(choice.label)) for choice in parameter.choices}
    named |= {("metric", name) for name in spec.evaluate.metrics}
    named |= {("encoder", floor.name) for floor in registry.floors()}
    return sorted({registry.get(kind, name).factory.partition(":")[0] for kind, name in named})  # type: ignore[arg-type]


def _supervise(request: StudyRequest, modules: list[str], *, deadline: float | None, look: Callable[[], None]) -> None:
    """Keeps the local workers alive until each has ended by itself; they and their trials share one fork server."""
    context = fork_server([__name__, *modules])
    me = Holder.this_process()
    restarts = dict.fromkeys(range(request.workers), 0)

    def start(slot: int) -> Any:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        process = context.Process(target=_worker_main, args=(request, slot, me, left), name=f"worker-{slot}")
        start_process(process)
        return process

    running = {slot: start(slot) for slot in restarts}
    broken: list[int] = []
    try:
        while running:
            for slot, process in list(running.items()):
                process.join(_LOOK_S / request.workers)
                if process.exitcode is None:
                    continue
                del running[slot]
                if (process.exitcode < 0 or process.exitcode == LOST) and restarts[slot] < _RESTARTS:
                    restarts[slot] += 1
                    running[slot] = start(slot)
                elif process.exitcode != 0:
                    broken.append(slot)
            look()
    finally:
        _stop(list(running.values()))
    if len(broken) == request.workers:
        raise RunError("every worker ended with an error (above); the same command goes on where they stopped")


def _stop(processes: list[BaseProcess]) -> None:
    """Lets workers give their trials back."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(_STOP_S)
        if process.is_alive():
            process.kill()


def _worker_main(request: StudyRequest, slot: int, command: Holder, seconds: float | None) -> None:
    """A local worker: the same as a command of its own, without display."""
    end_with_parent(os.getppid())
    end_with(command)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        registry = default_registry()
        checked = load_study_file(request, registry)
        deadline = None if seconds is None else time.monotonic() + seconds
        _worker(checked, request, open_ledger(checked), registry, slot=slot).run(deadline)
    except KeyboardInterrupt:
        sys.exit(0)
    except CollmError as error:
        sys.stderr.write(f"worker {slot}: {error}\n")
        sys.exit(error.exit_code)


def _interrupt(number: int, frame: object) -> None:
    del number, frame
    raise KeyboardInterrupt
