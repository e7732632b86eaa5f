from __future__ import annotations

import subprocess
import sys

import pytest

from collm.cli import processes as allocator

# 48 MB per round in three sizes, as a pass allocates and frees; what glibc keeps is not faulted in again.
ROUNDS = """
import ctypes, resource, sys
from collm.cli.processes import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]

def rounds(n):
    for _ in range(n):
        blocks = [libc.malloc(size << 20) for size in (4, 12, 32)]
        for block, size in zip(blocks, (4, 12, 32)):
            ctypes.memset(block, 1, size << 20)
        for block in blocks:
            libc.free(block)

rounds(3)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
rounds(20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is Linux's")


def page_faults(how: str) -> int:
    run = subprocess.run([sys.executable, "-c", ROUNDS, how], capture_output=True, text=True, check=True)
    return int(run.stdout)


@linux
def test_freed_blocks_are_used_again_without_page_faults() -> None:
    assert page_faults("kept") < 0.02 * page_faults("returned")


@linux
@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_the_users_own_settings_stay(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1048576")
    assert not allocator.keep_freed_memory()


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not allocator.keep_freed_memory()
