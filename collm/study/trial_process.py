"""The process of a trial: started, answered and stopped by the command; what it does is in `trial_run.py`.

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
from collections.abc import Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from collm.errors import RunError
from collm.process_group import end_with_parent
from collm.study.records import Outcome
from collm.study.trial_run import Job, TrialPruned, Work
from collm.visible import ShownFormatter

# Kinds of messages to the command; trial_run.py has one more.
COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"
# Signals that come from outside: the trial is begun again. Others are the trial's own crash.
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)
# The exit code that is seen when the fork server itself was killed.
_LOST = 255
_END_S = 10.0
# A process that sent its result has nothing left to do but to exit.
_EXIT_S = 0.25
_TAIL_BYTES = 8_000


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
