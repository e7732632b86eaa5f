"""Commands in child processes: logged, recorded, ended with their parent; locks of a lost attempt are freed."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from collm.errors import RunError
from collm.launch.attempt import Attempt, Record, end, how_ended, log_end, read_record
from collm.locks import Holder

ELSEWHERE = Holder(pid=7, host="elsewhere", start=5.0)


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    return Attempt("a", ("--version",), tmp_path / "launched" / "a.log", tmp_path, tmp_path)


def write_record(attempt: Attempt, record: Record) -> None:
    attempt.record.parent.mkdir(exist_ok=True)
    attempt.record.write_text(json.dumps(asdict(record)))


def test_a_command_leaves_its_log_and_how_it_ended(attempt: Attempt) -> None:
    assert attempt() == 0
    assert log_end(attempt.log)[0].startswith("collm ")
    record = read_record(attempt.record)
    assert record is not None
    assert (record.attempt, record.code, record.holder.host) == (1, 0, socket.gethostname())


def test_the_log_of_a_failure_is_that_of_the_newest_attempt(attempt: Attempt) -> None:
    attempt()
    failing = replace(attempt, words=("run", "nowhere.yaml"))
    assert failing() == 2
    assert "nowhere.yaml: no such file" in "\n".join(log_end(attempt.log))
    assert not any(line.startswith(("collm ", "==")) for line in log_end(attempt.log))
    assert read_record(attempt.record).attempt == 2


@pytest.mark.parametrize(("code", "freed"), [(None, True), (1, False)])
def test_only_a_lost_attempt_has_its_locks_freed(
    attempt: Attempt, tmp_path: Path, code: int | None, freed: bool
) -> None:
    write_record(attempt, Record(ELSEWHERE, 1, code))
    own, other = tmp_path / "run-1" / "lock", tmp_path / "stages" / "fit_encoder-1" / "lock"
    for path, holder in ((own, ELSEWHERE), (other, replace(ELSEWHERE, pid=8))):
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(asdict(holder)))
    attempt()
    assert (own.exists(), other.exists()) == (not freed, True)


def test_a_first_attempt_frees_nothing(attempt: Attempt, tmp_path: Path) -> None:
    write_record(attempt, Record(ELSEWHERE, 3))
    lock = tmp_path / "run-1" / "lock"
    lock.parent.mkdir()
    lock.write_text(json.dumps(asdict(ELSEWHERE)))
    attempt.forget()
    attempt()
    assert lock.exists()
    assert read_record(attempt.record).attempt == 1


def test_a_missing_folder_is_named(attempt: Attempt, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"gone: not there on .* file system that machines share"):
        replace(attempt, folder=tmp_path / "gone")()


def test_a_share_of_a_machine_is_said_to_all_libraries(attempt: Attempt) -> None:
    placed = replace(attempt, variables={"OMP_NUM_THREADS": "7"}).placed("cuda:1", 3)
    assert placed.words == ("--version", "--device", "cuda:1", "--threads", "3")
    assert placed.variables == {"OMP_NUM_THREADS": "7", "POLARS_MAX_THREADS": "3"}
    assert attempt.placed(None, 1).words == ("--version", "--threads", "1")


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    """The parent is killed without a chance to end it; what the child runs would wait for a minute."""
    code = (
        "import sys, time; from pathlib import Path; from collm.launch.attempt import Attempt\n"
        "root = Path(sys.argv[1])\n"
        "process, _ = Attempt('a', ('serve', 'x'), root / 'a.log', root, root).start()\n"
        "process.send_signal(19)\n"
        "print(process.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert psutil.pid_exists(pid)
    # Stopped before it could ask the system to end with its parent: it looks for itself when it goes on.
    parent.kill()
    parent.wait()
    os.kill(pid, signal.SIGCONT)
    deadline = time.monotonic() + 30
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(pid)


def test_processes_that_do_not_end_are_killed() -> None:
    code = "import signal, time; signal.signal(2, signal.SIG_IGN); print('.', flush=True); time.sleep(60)"
    stubborn = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert stubborn.stdout is not None
    stubborn.stdout.readline()
    end([stubborn], patience_s=0.2)
    assert stubborn.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("code", "said"),
    [(1, "exit code 1"), (-9, r"killed \(SIGKILL\); .*memory"), (-11, r"killed \(SIGSEGV\)$"), (None, "lost: ")],
)
def test_ends_in_words(code: int | None, said: str) -> None:
    assert re.match(said, how_ended(code))
