"""Peak memory of a piece of work."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psutil
import torch

SECONDS_BETWEEN_LOOKS = 0.005


def peak_memory_gb(work: Callable[[], object], device: torch.device) -> float:
    """Does the work and returns the most memory that was in use meanwhile.

    Args:
        work: What is measured.
        device: On a CUDA device, what torch allocated there; otherwise the resident memory of the whole process, its
            libraries and the loaded model included.

    Returns:
        Gigabytes of 1e9 bytes.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device) / 1e9
    with _Watch() as watch:
        work()
    return watch.most / 1e9


class _Watch:
    """Looks at the process from a thread of its own."""

    def __init__(self) -> None:
        self.most = 0
        self._process = psutil.Process()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            self.most = max(self.most, int(self._process.memory_info().rss))
            if self._stop.wait(SECONDS_BETWEEN_LOOKS):
                return
