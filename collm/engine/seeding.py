"""Random numbers: one seed per purpose, derived by name, and the generator state that a checkpoint carries."""

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


def generator_state() -> dict[str, torch.Tensor]:
    """Returns the global generators' states as uint8 tensors by device name."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_generator_state(state: dict[str, torch.Tensor]) -> None:
    """Puts back what `generator_state` returned."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
