"""Starts one process per trial: forked from a server that has torch loaded, or spawned where CUDA is used."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from collm.errors import RunError
from collm.study.child import Job, count_devices, run_job, tail
from collm.study.records import Outcome

PRELOAD = "collm.study.preload"
# Signals that come from outside: the trial is begun again. Others are the trial's own crash.
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)
# The exit code that is seen when the fork server itself was killed.
LOST = 255
_END_S = 10.0


@dataclass(frozen=True)
class Running:
    """A trial's process and the way to it."""

    process: BaseProcess
    connection: Connection
    log: Path

    def stop(self) -> None:
        """Ends the process, at once if need be."""
        self.process.terminate()
        self.process.join(_END_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join(_END_S)
        self.connection.close()

    def crashed(self) -> Outcome:
        """Returns what became of a process that ended without a word."""
        self.process.join(_END_S)
        code = self.process.exitcode
        if code is None:
            self.stop()
            return Outcome("failed", cause="its process closed its connection and went on", traceback=tail(self.log))
        number = -code if code < 0 else 0
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        if code == LOST or number in _FROM_OUTSIDE:
            memory = "; the system kills with SIGKILL when memory runs out" if number == signal.SIGKILL else ""
            return Outcome("killed", cause=f"its process was killed ({name if number else 'with its server'}){memory}")
        how = f"crashed with {name}" if number else f"ended with exit code {code} before it reported a result"
        return Outcome("failed", cause=f"its process {how}", traceback=tail(self.log))


def fork_server(modules: Sequence[str]) -> Any:
    """Returns the context that forks from this process's fork server, or from the one that this process came from.

    Args:
        modules: What the server loads before its first child, beside torch and the runner.
    """
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOAD, *modules])
    return context


def start_process(process: BaseProcess) -> None:
    """Starts a process from the fork server.

    Raises:
        RunError: If the server was killed.
    """
    try:
        process.start()
    except (EOFError, ConnectionError) as error:
        raise RunError(
            "the process that trials are started from was killed, perhaps because memory ran out: use fewer --workers, "
            "or smaller settings. Finished trials are kept; the same command goes on"
        ) from error


class Starter:
    """Starts trial processes for one worker."""

    def __init__(self, modules: Sequence[str], *, device: str | None, slot: int = 0) -> None:
        """Takes what a fork server loads beforehand, the device asked for, and which worker of this host it is for."""
        self._fork = fork_server(modules)
        self._context: Any = self._fork
        self._device, self._slot = device, slot
        self._probed = device is not None
        if device is not None and device != "cpu":
            self._context = multiprocessing.get_context("spawn")

    def start(self, job: Job) -> Running:
        """Starts one trial.

        Args:
            job: What it does; its device is chosen here where it names none.
        """
        if not self._probed:
            self._probe()
        here, there = self._context.Pipe()
        process = self._context.Process(
            target=run_job, args=(replace(job, device=self._device), there), name=f"trial-{job.number}"
        )
        start_process(process)
        # Only the child may hold its end, so that its death is seen as the end of the connection.
        there.close()
        return Running(process, here, job.log)

    def _probe(self) -> None:
        """Counts CUDA devices in a child; with some, workers share them in turn and every trial is spawned."""
        self._probed = True
        here, there = self._fork.Pipe()
        process = self._fork.Process(target=count_devices, args=(there,))
        start_process(process)
        there.close()
        try:
            n_devices = here.recv()
        except EOFError:
            n_devices = 0
        process.join()
        self._device = "cpu"
        if n_devices:
            self._device = f"cuda:{self._slot % n_devices}"
            self._context = multiprocessing.get_context("spawn")
