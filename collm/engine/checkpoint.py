"""Saving and loading named tensors: one safetensors file, strict keys, written atomically, never a pickle."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from collm.errors import RunError
from collm.runs.store import write_atomically

METADATA_KEY, DIGEST_KEY = "collm", "sha256"
CHECKPOINTS = "checkpoint*.safetensors"
UNREADABLE = (OSError, SafetensorError, ValueError, KeyError, TypeError)


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any] | None = None) -> None:
    """Writes tensors and JSON metadata into one file.

    Args:
        path: Target; replaced atomically.
        tensors: Name -> tensor of any shape and dtype.
        metadata: JSON-able facts kept in the file's header.

    Raises:
        RunError: If the disk is full or the folder cannot be written.
    """
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    text = json.dumps(dict(metadata or {}))
    write_atomically(path, save(plain, metadata={METADATA_KEY: text, DIGEST_KEY: _digest(plain, text)}))


def earlier_seconds(folder: Path) -> float:
    """Returns the seconds of training that went into the checkpoints of a stage's folder.

    A damaged checkpoint counts as 0: the training that continues from it says what is wrong.
    """
    found = 0.0
    for path in folder.glob(CHECKPOINTS):
        with suppress(*UNREADABLE), safe_open(os.fspath(path), framework="pt") as file:
            found += float(json.loads(file.metadata()[METADATA_KEY])["state"]["seconds"])
    return found


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Reads what `save_tensors` wrote, on the processor.

    Raises:
        RunError: If the file is missing or damaged.
    """
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            facts = file.metadata() or {}
            text = facts.get(METADATA_KEY, "{}")
            metadata = json.loads(text)
    except (OSError, SafetensorError, ValueError) as error:
        raise RunError(
            f"{path}: cannot be read as safetensors ({error}); remove this stage's folder and run again"
        ) from error
    # Files of earlier versions have no digest.
    if facts.get(DIGEST_KEY, written := _digest(tensors, text)) != written:
        raise RunError(
            f"{path}: damaged: its contents are not those that were written; remove this stage's folder and run again"
        )
    return tensors, metadata


def _digest(tensors: Mapping[str, torch.Tensor], metadata: str) -> str:
    digest = hashlib.sha256(metadata.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\0{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        if tensor.numel():
            digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def flatten_optimiser(optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Returns the optimiser's state as tensors named `<parameter index>.<state name>`."""
    flat = {}
    for index, values in optimiser.state_dict()["state"].items():
        for key, value in values.items():
            flat[f"{index}.{key}"] = value if isinstance(value, torch.Tensor) else torch.tensor(value)
    return flat


def restore_optimiser(optimiser: torch.optim.Optimizer, flat: Mapping[str, torch.Tensor]) -> None:
    """Puts back what `flatten_optimiser` returned; the groups' settings stay those of the running program.

    Raises:
        RunError: If the state speaks of a parameter that the optimiser does not have.
    """
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in flat.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = tensor
    n_parameters = sum(len(group["params"]) for group in optimiser.param_groups)
    if state and max(state) >= n_parameters:
        raise RunError(
            f"checkpoint holds optimiser state for {max(state) + 1} parameters, the model trains {n_parameters}"
        )
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
