"""Time: of the wall, or of the processor where other programs take their share of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import torch

ClockName = Literal["wall", "processor"]


class Clock:
    """Measures how long work takes."""

    def __init__(self, name: ClockName, device: torch.device) -> None:
        """Takes the kind of time and the device, whose queue is emptied before and after.

        Args:
            name: `wall`; `processor` = the process's own processor time over its threads, which other programs on the
                machine lengthen less. It says nothing of work on another device.
            device: Where the work runs.
        """
        self._name, self._device = name, device

    def seconds(self, work: Callable[[], object]) -> float:
        """Does the work once and returns its seconds."""
        start = self.start()
        work()
        return self.since(start)

    def start(self) -> float:
        """Returns the time now, when queued work is done."""
        return self._now()

    def since(self, start: float) -> float:
        """Returns the seconds since a time, above zero; queued work is waited for."""
        return max(self._now() - start, 1e-9)

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        if self._name == "wall":
            return time.perf_counter()
        return time.process_time() / torch.get_num_threads()
