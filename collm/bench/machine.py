"""Time: of the wall, or of the processor where other programs take their share of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import psutil
import torch

ClockName = Literal["wall", "processor"]
SECONDS_BETWEEN_LOOKS = 0.005
Shape = tuple[int, int, int]
# (rows, inputs, outputs) of a linear layer: SmolLM2's feed-forward part and some larger ones.
SHAPES: tuple[Shape, ...] = ((2048, 576, 1536), (2048, 1536, 576), (4096, 576, 1536), (4096, 2048, 2048))
# A GPU reaches its peak with larger ones only.
CUDA_SHAPES: tuple[Shape, ...] = (*SHAPES, (8192, 4096, 11008), (8192, 8192, 8192), (16384, 8192, 8192))
SECONDS_PER_SHAPE = 0.4
FEWEST_RUNS = 3


class Clock:
    """Measures how long work takes."""

    def __init__(self, name: ClockName, device: torch.device) -> None:
        """Takes the kind of time and the device, whose queue is emptied before and after.

        Args:
            name: `wall`; `processor` = the process's own processor time over its threads, which other programs on the
                machine lengthen less. It does not measure work on another device.
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


@dataclass(frozen=True)
class Peak:
    """The best rate found.

    Attributes:
        gflops: 1e9 floating-point operations per second, a multiplication and an addition counting as two.
        shape: Rows, inputs and outputs of the layer that reached it.
    """

    gflops: float
    shape: Shape


def matmul_peak(
    dtype: torch.dtype,
    device: torch.device,
    clock: Clock,
    *,
    shapes: Sequence[Shape] | None = None,
    seconds_per_shape: float = SECONDS_PER_SHAPE,
) -> Peak:
    """Measures the peak with the threads, the dtype and the operation that the decoder's layers use.

    Args:
        dtype: Number format.
        device: Where to measure.
        clock: Which time counts.
        shapes: What to try; None = `SHAPES`, or `CUDA_SHAPES` on a CUDA device.
        seconds_per_shape: Time spent on each, at least `FEWEST_RUNS` runs.

    Returns:
        The best of all runs.
    """
    chosen = shapes or (CUDA_SHAPES if device.type == "cuda" else SHAPES)
    with torch.no_grad():
        return max((_best(shape, dtype, device, clock, seconds_per_shape) for shape in chosen), key=lambda p: p.gflops)


def _best(shape: Shape, dtype: torch.dtype, device: torch.device, clock: Clock, seconds: float) -> Peak:
    rows, inputs, outputs = shape
    x = torch.randn(rows, inputs, device=device).to(dtype)
    weight = torch.randn(outputs, inputs, device=device).to(dtype)

    def multiply() -> None:
        torch.nn.functional.linear(x, weight)

    # The first run compiles and is not counted.
    multiply()
    spent: list[float] = []
    while len(spent) < FEWEST_RUNS or sum(spent) < seconds:
        spent.append(clock.seconds(multiply))
    return Peak(2 * rows * inputs * outputs / min(spent) / 1e9, shape)
