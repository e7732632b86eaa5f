"""What trial processes do in tests of the processes themselves."""

from __future__ import annotations

import os
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

from study_fakes import results

from collm.study.child import REPORT, Job, TrialPruned


def complete(job: Job, connection: Connection) -> dict[str, Any]:
    sys.stderr.write(f"working on trial {job.number} with device {job.device}\n")
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
