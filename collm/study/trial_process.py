"""One trial in a process of its own: started, answered and stopped by the command, run and reported by the child.

The command never loads torch: a fork server does, once for all trials, or each spawned process where CUDA is used.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from collm.component import BuildContext
from collm.errors import RunError
from collm.finished import run_folder
from collm.hookspecs import hookimpl
from collm.locks import Holder, read_holder
from collm.process_group import end_with_parent
from collm.registry import Registry, default_registry
from collm.runs.environment import UNRECORDED, Provenance, RunOptions
from collm.runs.records import RunOutcome
from collm.runs.store import LOCK, STAGES
from collm.spec.model import ResolvedSpec
from collm.study.records import ClaimedTrial, Outcome
from collm.visible import ShownFormatter

# Kinds of messages to the command.
REPORT, COMPLETE, PRUNED, FAILED = "report", "complete", "pruned", "failed"
# Signals that come from outside: the trial is begun again. Others are the trial's own crash.
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)
# The exit code that is seen when the fork server itself was killed.
_LOST = 255
_END_S = 10.0
# A process that sent its result has nothing left to do but to exit.
_EXIT_S = 0.25
_TAIL_BYTES = 8_000
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


class TrialProcess:
    """The command's side of a running trial."""

    def __init__(self, job: Job, context: Any, work: Work) -> None:
        """Starts the process.

        Raises:
            RunError: If the fork server was killed.
        """
        self.number, self._log = job.trial.number, job.log
        self.started, self._earlier = time.monotonic(), job.trial.seconds
        self.connection, there = context.Pipe()
        self._process = context.Process(target=_main, args=(work, job, there), name=f"trial-{self.number}")
        try:
            _start(self._process)
        finally:
            # Only the child may hold its end, so that its death is seen as the end of the connection.
            there.close()

    @property
    def seconds(self) -> float:
        """Seconds of this attempt so far and of those before it."""
        return round(self._earlier + time.monotonic() - self.started, 3)

    def receive(self) -> tuple[Any, ...] | None:
        """Returns the next message; None after the last one."""
        try:
            message: tuple[Any, ...] = self.connection.recv()
        except (EOFError, ConnectionResetError):
            return None
        return message

    def answer(self, prune: bool) -> None:
        """Answers a report; nothing is wrong where the process has ended meanwhile."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(prune)

    def terminate(self) -> None:
        """Sends SIGTERM; `join` waits for the end."""
        self._process.terminate()

    def join(self, patience_s: float = _EXIT_S) -> None:
        """Waits for the end of the process; ends one that takes longer.

        Args:
            patience_s: Seconds before SIGTERM.
        """
        self._process.join(patience_s)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(_END_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(_END_S)
        self.connection.close()

    def crash(self) -> Outcome:
        """Returns how a process ended that sent no result."""
        self._process.join(_END_S)
        code, log = self._process.exitcode, _tail(self._log)
        self.join(0)
        if code is None:
            return Outcome("failed", cause="its process closed its connection but did not exit", traceback=log)
        number = -code if code < 0 else 0
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        if code == _LOST or number in _FROM_OUTSIDE:
            memory = "; the system kills with SIGKILL when memory runs out" if number == signal.SIGKILL else ""
            return Outcome("killed", cause=f"its process was killed ({name if number else 'with its server'}){memory}")
        how = f"crashed with {name}" if number else f"ended with exit code {code} before it reported a result"
        return Outcome("failed", cause=f"its process {how}", traceback=log)


def _start(process: Any) -> None:
    """Starts a process of trials.

    Raises:
        RunError: If the fork server was killed.
    """
    try:
        process.start()
    except (EOFError, ConnectionError) as error:
        raise RunError(
            "the process that trials are started from was killed, perhaps because memory ran out: use fewer "
            "--workers, or smaller settings. Finished trials are kept; the same command goes on"
        ) from error


def start_context(device: str | None, modules: Iterable[str]) -> Any:
    """Returns how trials start: forked from a server that has loaded the modules, or spawned on CUDA and the like."""
    if device is not None and device.partition(":")[0] != "cpu":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *modules])
    return context


def count_cuda_devices(context: Any) -> int:
    """Returns the number of CUDA devices, counted in a child: the command itself must not start CUDA.

    Raises:
        RunError: If the fork server was killed.
    """
    here, there = context.Pipe()
    process = context.Process(target=_send_device_count, args=(there,))
    try:
        _start(process)
    finally:
        there.close()
    try:
        count = int(here.recv())
    except EOFError:
        count = 0
    process.join()
    return count


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


def _main(work: Work, job: Job, connection: Connection) -> None:
    """The trial's process: runs the work and sends how it ended."""
    # The fork server is killed rarely, the command more often: in both cases the trial ends at once.
    end_with_parent(os.getppid())
    threading.Thread(target=_end_with_command, name="command-watch", daemon=True).start()
    # Ctrl-C reaches every process of a terminal; the command decides what becomes of its trials.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _redirect_output(job.log)
    try:
        results = work(job, connection)
    except TrialPruned:
        connection.send((PRUNED,))
    # The boundary of the trial: whatever ended it is sent with its traceback, and the study goes on.
    except BaseException as error:  # noqa: BLE001
        traceback.print_exc()
        connection.send((FAILED, f"{type(error).__name__}: {error}", traceback.format_exc()))
    else:
        connection.send((COMPLETE, results))
    connection.close()


def _end_with_command() -> None:
    command = multiprocessing.parent_process()
    if command is not None:
        command.join()
        # No cleanup: its death is like a kill, and everything on disk is written to survive one.
        os._exit(1)


def _redirect_output(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout = sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    faulthandler.enable(sys.stderr)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(ShownFormatter("%(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger("collm").setLevel(logging.INFO)


def _tail(log: Path) -> str:
    try:
        content = log.read_bytes()
    except OSError:
        return ""
    return content[-_TAIL_BYTES:].decode("utf-8", errors="replace")


def _send_device_count(connection: Connection) -> None:
    import torch

    connection.send(torch.cuda.device_count())
    connection.close()
