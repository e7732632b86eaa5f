"""What trial processes do in tests of the processes themselves."""

from __future__ import annotations

import os
import signal
import sys
import time
from multiprocessing.connection import Connection

from study_fakes import outcome

from collm.runs.records import RunOutcome
from collm.study.trial_run import REPORT, Job, TrialPruned


def complete(job: Job, connection: Connection) -> RunOutcome:
    sys.stderr.write(f"working on trial {job.trial.number} with device {job.device}\n")
    return outcome(0.75)


def name_its_process(job: Job, connection: Connection) -> RunOutcome:
    sys.stderr.write(f"{os.getpid()}\n")
    return outcome(0.75)


def no_value(job: Job, connection: Connection) -> RunOutcome:
    return outcome(None)


def raise_error(job: Job, connection: Connection) -> RunOutcome:
    raise MemoryError("CUDA out of memory")


def abort(job: Job, connection: Connection) -> RunOutcome:
    os.abort()


def kill_itself(job: Job, connection: Connection) -> RunOutcome:
    os.kill(os.getpid(), signal.SIGKILL)
    return outcome(None)


def leave(job: Job, connection: Connection) -> RunOutcome:
    sys.stderr.write("leaving early\n")
    sys.stderr.flush()
    os._exit(3)


def prune(job: Job, connection: Connection) -> RunOutcome:
    for step in range(1, 100):
        connection.send((REPORT, step, 0.1))
        if connection.recv():
            raise TrialPruned
    return outcome(0.1)


def overlap(job: Job, connection: Connection) -> RunOutcome:
    """Ends once another trial has begun too."""
    deadline = time.monotonic() + 60
    while len(list(job.log.parent.glob("trial-*.log"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    sys.stderr.write(f"device {job.device}, {len(list(job.log.parent.glob('trial-*.log')))} begun\n")
    return outcome(0.75)


def sleep(job: Job, connection: Connection) -> RunOutcome:
    time.sleep(600)
    return outcome(None)


def take_a_moment(job: Job, connection: Connection) -> RunOutcome:
    time.sleep(1)
    return outcome(0.75)


def first_one_hangs(job: Job, connection: Connection) -> RunOutcome:
    sys.stderr.write(f"{os.getpid()}\n")
    if job.trial.number == 0:
        time.sleep(600)
    return outcome(0.75)


def ignore_the_end(job: Job, connection: Connection) -> RunOutcome:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.stderr.write(f"{os.getpid()}\n")
    time.sleep(600)
    return outcome(None)
