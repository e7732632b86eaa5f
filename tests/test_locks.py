"""Locks: dead holders, live holders, other hosts."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from collm import locks as lock_module
from collm.errors import InUse, RunError
from collm.locks import Holder, Lock, read_holder


def write_lock(path: Path, holder: Holder) -> None:
    path.write_text(json.dumps(asdict(holder)))


def parent_holder() -> Holder:
    """A process that is alive and is not this one."""
    parent = psutil.Process(os.getppid())
    return Holder(pid=parent.pid, host=socket.gethostname(), start=parent.create_time())


def dead_holder() -> Holder:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    start = psutil.Process(child.pid).create_time()
    child.wait()
    return Holder(pid=child.pid, host=socket.gethostname(), start=start)


def test_holder_is_named_while_held_and_file_is_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with Lock(path):
        assert read_holder(path) == Holder.this_process()
    assert not path.exists()


def test_dead_holder_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    write_lock(path, dead_holder())
    with Lock(path):
        assert read_holder(path) == Holder.this_process()


def test_zombie_holder_is_taken_over(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    holder = Holder(pid=child.pid, host=socket.gethostname(), start=psutil.Process(child.pid).create_time())
    assert holder.is_alive()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    write_lock(tmp_path / "lock", holder)
    with Lock(tmp_path / "lock"):
        pass
    child.communicate()


def test_reused_pid_is_not_the_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    write_lock(path, replace(parent_holder(), start=1.0))
    with Lock(path):
        pass


def test_live_holder_is_refused_and_named(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    write_lock(path, parent_holder())
    with pytest.raises(RunError, match=rf"in use by pid {os.getppid()} on host .* repeat the command"):
        Lock(path).acquire()
    assert read_holder(path) == parent_holder()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting, signs of life and their absence take a moment."""
    monkeypatch.setattr(lock_module, "_POLL_S", 0.01)
    monkeypatch.setattr(lock_module, "BEAT_S", 0.02)
    monkeypatch.setattr(lock_module, "STILL_S", 0.3)


def test_other_host_without_a_sign_of_life_is_refused_even_when_waiting(tmp_path: Path, soon: None) -> None:
    path = tmp_path / "lock"
    write_lock(path, Holder(pid=1, host="elsewhere", start=0.0))
    with pytest.raises(RunError, match=r"elsewhere.* no sign of life for 0.3 s.* delete .*lock and repeat") as refused:
        Lock(path, wait=True).acquire()
    assert not isinstance(refused.value, InUse)
    assert read_holder(path) == Holder(pid=1, host="elsewhere", start=0.0)


def test_other_host_that_works_is_waited_for(tmp_path: Path, soon: None) -> None:
    """A thread stands for a process of another machine: it sets the time of its lock, and then gives it back."""
    path, elsewhere = tmp_path / "lock", Holder(pid=1, host="elsewhere", start=0.0)
    write_lock(path, elsewhere)
    released = threading.Event()
    beat = threading.Thread(target=lock_module._keep_moving, args=(path, elsewhere, released))
    beat.start()
    with pytest.raises(InUse):
        Lock(path).acquire()
    start = time.monotonic()
    ends = threading.Timer(1.0, lambda: (released.set(), beat.join(), path.unlink()))
    ends.start()
    with Lock(path, wait=True):
        assert 0.9 < time.monotonic() - start < 10
    ends.join()


def test_a_held_lock_moves_and_one_that_was_taken_over_does_not(tmp_path: Path, soon: None) -> None:
    path = tmp_path / "lock"
    with Lock(path):
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 10
        while path.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert path.stat().st_mtime > 0
        write_lock(path, parent_holder())
        time.sleep(0.1)
        os.utime(path, (0, 0))
        time.sleep(0.1)
        assert path.stat().st_mtime == 0


def test_waiting_says_so_once_and_ends_with_the_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lock"
    write_lock(path, parent_holder())
    monkeypatch.setattr(lock_module, "_POLL_S", 0.001)
    said: list[str] = []

    def note(message: str) -> None:
        said.append(message)
        path.unlink()

    with Lock(path, wait=True, on_wait=note):
        pass
    assert len(said) == 1
    assert f"waiting for pid {os.getppid()}" in said[0]


def test_unreadable_lock_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("{")
    with pytest.raises(RunError, match="not a lock file; delete it"):
        Lock(tmp_path / "lock").acquire()


def test_release_leaves_the_lock_of_somebody_else(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held = Lock(path)
    held.acquire()
    write_lock(path, parent_holder())
    held.release()
    assert read_holder(path) == parent_holder()


def test_one_of_many_takes_over_a_dead_holder(tmp_path: Path) -> None:
    """Threads stand for processes: all see the dead holder, exactly one may win."""
    path = tmp_path / "lock"
    write_lock(path, dead_holder())
    barrier, won, refused = threading.Barrier(8), [], []

    def contend() -> None:
        barrier.wait()
        try:
            Lock(path).acquire()
            won.append(1)
        except RunError:
            refused.append(1)

    threads = [threading.Thread(target=contend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(refused)) == (1, 7)
