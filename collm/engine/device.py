"""Where computation runs: device, number format, threads, deterministic kernels."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin, InitProcessGroupKwargs

from collm.contracts.backbone import Dtype
from collm.errors import RunError

DTYPES: dict[Dtype, torch.dtype] = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
}
# Collective operations between processes that go in step; where one works for long, the others wait in another way.
COLLECTIVE_LIMIT = timedelta(hours=1)


def choose_device(name: str | None) -> torch.device:
    """Returns the device called `name`, or the first CUDA device, or the processor.

    Raises:
        RunError: If the named device is not there.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise RunError(f"--device: unknown device '{name}'; use cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RunError(f"--device: '{name}' asked for, but torch sees no CUDA device; use --device cpu")
    return device


def start_accelerator(device: torch.device) -> Accelerator:
    """Starts Accelerate, which meets the other processes where a launcher started several.

    What a launcher's settings say of number formats and accumulated gradients is not taken: a spec decides numbers.

    Args:
        device: Where to work; with several processes each gets its own device of that kind.

    Returns:
        The accelerator; every call in one process gives the same group and device.
    """
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    return Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="no",
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=COLLECTIVE_LIMIT)],
    )


def prepare_machine(threads: int | None) -> None:
    """Sets threads once and asks for deterministic kernels, so that a resumed run gives the same bits.

    Args:
        threads: Processor threads; None leaves torch's own choice.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling fresh memory helps to find reads of unwritten numbers; it changes no result and costs 2% of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def derive_seed(seed: int, *labels: object) -> int:
    """Returns a seed in [0, 2**31) for one purpose, independent of every other purpose's.

    Args:
        seed: The run's seed.
        labels: What the numbers are for, e.g. ("tune_1", "epoch", 3).
    """
    text = "/".join(str(part) for part in (seed, *labels))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") & 0x7FFF_FFFF


def seed_torch(seed: int) -> None:
    """Seeds torch's global generators on every device."""
    torch.manual_seed(seed)


def seed_draws(seed: int) -> None:
    """Seeds the generators of the processor and of the CUDA device in use, a hundred times faster than `seed_torch`.

    For the inside of a training loop, where `seed_torch` asks every kind of device that torch knows of.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed(seed)
