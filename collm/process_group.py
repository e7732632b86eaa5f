"""The processes that work on one run. This is the single-process implementation; `collm.engine.launched` has the other.

Only the main process writes, locks and prints. Everything else runs in all processes, or in the main process while the
others wait. Code that uses a group is the same for one process and for many. `end_with_parent` ties a child process to
its parent.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
Array = np.ndarray[Any, Any]
_PR_SET_PDEATHSIG = 1
_POLL_S = 1.0


class ProcessFailed(Exception):
    """The group is aborted: one of its processes failed where the others could not follow.

    Attributes:
        already_reported: Whether another process shows the cause, so that this one ends silently.
    """

    def __init__(self, message: str, *, already_reported: bool) -> None:
        """Takes what happened and whether it is shown elsewhere."""
        super().__init__(message)
        self.already_reported = already_reported


class ProcessGroup:
    """One process that works alone.

    Attributes:
        index: Number of this process, from 0.
        size: Number of processes.
        shards: Whether frozen weights are split over the processes, so that all must run the model equally often.
    """

    index: int = 0
    size: int = 1
    shards: bool = False

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes, locks and prints."""
        return self.index == 0

    def run_on_main(self, work: Callable[[], T]) -> T:
        """Does work in the main process alone; the others wait, however long it takes.

        Args:
            work: Returns plain data (what JSON can say), because the others get a copy of it.

        Returns:
            What `work` returned.

        Raises:
            CollmError: What `work` raised, in every process.
        """
        return work()

    def run_main_first(self, work: Callable[[], T]) -> T:
        """Does work in the main process and then in the others, for work that leaves files which all read.

        Args:
            work: Returns anything; each process gets its own.
        """
        own: list[T] = []
        self.run_on_main(lambda: own.append(work()))
        return own[0] if own else work()

    def run_on_all(self, work: Callable[[], T]) -> T:
        """Does work in every process; it succeeds everywhere or fails everywhere, with the same error.

        Args:
            work: May use the group.

        Returns:
            What `work` returned in this process.

        Raises:
            CollmError: The first process's error, in every process.
            ProcessFailed: If one process failed while others were busy with something that needs it.
        """
        return work()

    def sum(self, values: Array) -> Array:
        """Adds up same-shaped arrays of numbers over the processes; each gets the sum."""
        return values

    def all_reduce(self, tensor: torch.Tensor) -> None:
        """Replaces a tensor by its sum over the processes."""

    def broadcast(self, tensors: Iterable[torch.Tensor]) -> None:
        """Overwrites tensors by those of the main process."""

    def close(self) -> None:
        """Shuts the group down; no further communication is allowed."""


SINGLE = ProcessGroup()


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
