"""Random numbers: one seed per purpose, derived by name."""

from __future__ import annotations

import hashlib

import torch


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
