"""What trial processes do in tests of the processes themselves."""

from __future__ import annotations

import os
import signal
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

from study_fakes import results

from collm.study.trial_process import REPORT, Job, TrialPruned


def complete(job: Job, connection: Connection) -> dict[str, Any]:
    sys.stderr.write(f"working on trial {job.trial.number} with device {job.device}\n")
    return results(0.75)


def name_its_process(job: Job, connection: Connection) -> dict[str, Any]:
    sys.stderr.write(f"{os.getpid()}\n")
    return results(0.75)


def no_value(job: Job, connection: Connection) -> dict[str, Any]:
    return results(None)


def raise_error(job: Job, connection: Connection) -> dict[str, Any]:
    raise MemoryError("CUDA out of memory")


def abort(job: Job, connection: Connection) -> dict[str, Any]:
    os.abort()


def kill_itself(job: Job, connection: Connection) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def leave(job: Job, connection: Connection) -> dict[str, Any]:
    sys.stderr.write("leaving early\n")
    sys.stderr.flush()
    os._exit(3)


def prune(job: Job, connection: Connection) -> dict[str, Any]:
    for step in range(1, 100):
        connection.send((REPORT, step, 0.1))
        if connection.recv():
            raise TrialPruned
    return results(0.1)


def overlap(job: Job, connection: Connection) -> dict[str, Any]:
    """Ends once another trial has begun too."""
    deadline = time.monotonic() + 60
    while len(list(job.log.parent.glob("trial-*.log"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    sys.stderr.write(f"device {job.device}, {len(list(job.log.parent.glob('trial-*.log')))} begun\n")
    return results(0.75)


def sleep(job: Job, connection: Connection) -> dict[str, Any]:
    time.sleep(600)
    return {}


def take_a_moment(job: Job, connection: Connection) -> dict[str, Any]:
    time.sleep(1)
    return results(0.75)
