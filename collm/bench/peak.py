"""The machine's peak: the best rate of a matrix multiplication that it shows right now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from collm.bench.clock import Clock

Shape = tuple[int, int, int]
# (rows, inputs, outputs) of a linear layer: SmolLM2's feed-forward part and some larger ones.
SHAPES: tuple[Shape, ...] = ((2048, 576, 1536), (2048, 1536, 576), (4096, 576, 1536), (4096, 2048, 2048))
# A GPU reaches its peak with larger ones only.
CUDA_SHAPES: tuple[Shape, ...] = (*SHAPES, (8192, 4096, 11008), (8192, 8192, 8192), (16384, 8192, 8192))
SECONDS_PER_SHAPE = 0.4
FEWEST_RUNS = 3


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
