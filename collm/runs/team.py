"""The processes that work on one run together. A team of one is written here; `collm.engine.launched` has the others.

The main process alone writes, locks and prints. Everything else is done by all, or by the main process while the others
wait. Code that speaks to its team is the same for one process and for many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
Array = np.ndarray[Any, Any]


class ProcessFailed(Exception):
    """The team cannot go on, because one of its processes failed where the others could not follow.

    Attributes:
        told: Whether another process shows the cause, so that this one ends without a word.
    """

    def __init__(self, message: str, *, told: bool) -> None:
        """Takes what happened and whether it is shown elsewhere."""
        super().__init__(message)
        self.told = told


class Team:
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

    def from_main(self, work: Callable[[], T]) -> T:
        """Does work in the main process alone; the others wait, however long it takes.

        Args:
            work: Returns plain data (what JSON can say), because the others get a copy of it.

        Returns:
            What `work` returned.

        Raises:
            CollmError: What `work` raised, in every process.
        """
        return work()

    def main_first(self, work: Callable[[], T]) -> T:
        """Does work in the main process and then in the others, for work that leaves files which all read.

        Args:
            work: Returns anything; each process gets its own.
        """
        own: list[T] = []
        self.from_main(lambda: own.append(work()))
        return own[0] if own else work()

    def together(self, work: Callable[[], T]) -> T:
        """Does work in every process; it succeeds everywhere or fails everywhere, with the same error.

        Args:
            work: May speak to the team.

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

    def add_up(self, tensor: torch.Tensor) -> None:
        """Replaces a tensor by its sum over the processes."""

    def copy_from_main(self, tensors: Iterable[torch.Tensor]) -> None:
        """Overwrites tensors by those of the main process."""

    def close(self) -> None:
        """Takes leave of the others; nothing may be said to the team after it."""


ALONE = Team()
