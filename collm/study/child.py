"""The first code of a trial's process: ties it to its parent, sends its output to a file, then calls the work.

Knows nothing of torch, so that the process that starts children stays small.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from collm.component import load_attribute
from collm.locks import Holder
from collm.runs.parent import end_with_parent
from collm.spec.model import ResolvedSpec
from collm.visible import ShownFormatter

# Kinds of messages to the worker.
REPORT, COMPLETE, PRUNED, FAILED = "report", "complete", "pruned", "failed"
_LOOK_S = 0.5


class TrialPruned(BaseException):
    """Ends a trial at a validation point.

    Not an `Exception`: it passes from an observer through the run, as an interrupt does.
    """


@dataclass(frozen=True)
class Job:
    """What a trial's process is told.

    Attributes:
        spec: The resolved spec.
        number: Number of the trial.
        attempt: 1 for the first time.
        runs_dir: Directory of run folders and stages.
        cache_dir: User cache.
        device: Device name; None = the run's own choice.
        threads: Processor threads; None = torch's own choice.
        log: File that takes the process's output.
        work: `module:function` called as `work(job, connection)`; returns the results of the run.
        previous: Holder of locks that the trial's last process left behind on another host.
        worker: The process that waits for the result; the trial ends with it.
    """

    spec: ResolvedSpec
    number: int
    attempt: int
    runs_dir: Path
    cache_dir: Path
    device: str | None
    threads: int | None
    log: Path
    work: str = "collm.study.trial:work"
    previous: Holder | None = None
    worker: Holder | None = None


def run_job(job: Job, connection: Connection) -> None:
    """Runs one trial and sends how it ended; called in a process of its own.

    Args:
        job: What to do.
        connection: Leads to the worker, which owns the study.
    """
    # The fork server is the parent, and may serve other workers too.
    end_with_parent(os.getppid())
    if job.worker is not None:
        end_with(job.worker)
    # Ctrl-C reaches every process of a terminal; the worker decides what becomes of its trial.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _redirect_output(job.log)
    try:
        results = load_attribute(job.work, owner="study")(job, connection)
    except TrialPruned:
        connection.send((PRUNED,))
    # The boundary of the trial: whatever ended it is sent with its traceback, and the study goes on.
    except BaseException as error:  # noqa: BLE001
        traceback.print_exc()
        connection.send((FAILED, f"{type(error).__name__}: {error}", traceback.format_exc()))
    else:
        connection.send((COMPLETE, results))
    connection.close()


def end_with(holder: Holder) -> None:
    """Makes this process end when another one, which need not be its parent, has ended.

    Args:
        holder: The other process.
    """

    def watch() -> None:
        while holder.is_alive():
            time.sleep(_LOOK_S)
        # No cleanup: its death is like a kill, and everything on disk is written to survive one.
        os._exit(1)

    threading.Thread(target=watch, name="worker-watch", daemon=True).start()


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


def tail(log: Path, n_bytes: int = 8_000) -> str:
    """Returns the end of a log, empty where there is none."""
    try:
        content = log.read_bytes()
    except OSError:
        return ""
    return content[-n_bytes:].decode("utf-8", errors="replace")


def count_devices(connection: Connection) -> None:
    """Sends the number of CUDA devices; asked in a child, so that no worker ever starts CUDA itself."""
    torch: Any = load_attribute("torch.cuda:device_count", owner="study")
    connection.send(torch())
    connection.close()
