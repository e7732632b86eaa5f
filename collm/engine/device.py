"""Where computation runs: device, number format, threads, deterministic kernels."""

from __future__ import annotations

import torch

from collm.contracts.backbone import Dtype
from collm.errors import RunError

DTYPES: dict[Dtype, torch.dtype] = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
}


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


def prepare_machine(threads: int | None) -> None:
    """Sets threads once and asks for deterministic kernels, so that a resumed run gives the same bits.

    Args:
        threads: Processor threads; None leaves torch's own choice.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
