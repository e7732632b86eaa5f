"""A child ends when its parent is killed."""

from __future__ import annotations

import subprocess
import sys

import psutil

CHILD = """
import os, sys
from collm.process_group import end_with_parent
end_with_parent(int(sys.argv[1]))
print("up", os.getpid(), flush=True)
sys.stdin.read()
"""
PARENT = """
import os, subprocess, sys
subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid())]).wait()
"""


def test_child_ends_with_a_killed_parent() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline().split()[1]))
    parent.kill()
    child.wait(timeout=20)
    assert not child.is_running()
    parent.communicate()


def test_orphan_at_start_ends_at_once() -> None:
    finished = subprocess.run(
        [sys.executable, "-c", CHILD, "1"], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert finished.returncode == 1
    assert finished.stdout == b""
