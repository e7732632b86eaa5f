"""A child process that ends when its parent is gone, however the parent ended."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1
_POLL_S = 1.0


def end_with_parent(parent_pid: int) -> None:
    """Makes this process end as soon as its parent has ended; call it first thing in a child.

    Linux kills the child itself (also while it is inside a long native call); elsewhere a thread looks once a second.

    Args:
        parent_pid: Process id of the parent, taken by the parent before it started the child: the parent may be gone by
            the time the child asks.
    """
    kernel_watches = sys.platform == "linux" and _ask_kernel()
    if os.getppid() != parent_pid:
        _end()
    if not kernel_watches:
        threading.Thread(target=_watch, args=(parent_pid,), name="parent-watch", daemon=True).start()


def _ask_kernel() -> bool:
    try:
        return bool(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def _watch(parent_pid: int) -> None:
    while os.getppid() == parent_pid:
        time.sleep(_POLL_S)
    _end()


def _end() -> None:
    # No cleanup: the parent's death is like a kill, and everything on disk is written to survive one.
    os._exit(1)
