"""Files of a local Hugging Face model folder: what is there, its hash, and one-time conversion of .bin shards."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from collm.cache import leftovers, making
from collm.contracts.model_folder import BIN_INDEX, MODEL_FILES, SAFETENSORS_INDEX, bin_files
from collm.errors import DataError, out_of_memory
from collm.files import place_digest, temporary_for

logger = logging.getLogger(__name__)


def folder_hash(folder: Path) -> str:
    """Returns a hex digest over names and content of all files that decide the model's numbers.

    Raises:
        DataError: If a file cannot be read.
    """
    return place_digest(folder, MODEL_FILES)


def make_folder(target: Path, write: Callable[[Path], None]) -> Path:
    """Makes a folder whole or not at all; one that is there is left as it is.

    Args:
        target: The folder.
        write: Puts the files into the empty folder that it is given.

    Returns:
        `target`.

    Raises:
        DataError: If the disk cannot take it.
    """
    if target.is_dir() and not leftovers(target):
        return target
    with making(target):
        # Another process may have been faster.
        if target.is_dir():
            return target
        temporary = temporary_for(target)
        try:
            temporary.mkdir(parents=True)
            write(temporary)
            temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return target


def converted_bins(folder: Path, target: Path) -> Path:
    """Returns a folder with the same model in safetensors, converting it once.

    Args:
        folder: Model folder with pickled weights; they are read with `weights_only=True`, so no code in them runs.
        target: Where the converted folder lies, or is put.

    Raises:
        DataError: If a file is not a plain weight file, or the disk cannot take the copy.
    """
    if not target.is_dir():
        logger.info("converting the .bin weights of %s to safetensors, once", folder.name)
    return make_folder(target, lambda empty: _convert(folder, bin_files(folder), empty))


def _convert(folder: Path, shards: Sequence[Path], target: Path) -> None:
    places: dict[str, str] = {}
    n_bytes = 0
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors" if len(shards) > 1 else "model.safetensors"
        # Copies, because tied weights share memory, which safetensors refuses.
        state = {key: value.contiguous().clone() for key, value in _read_bin(shard).items()}
        save_file(state, target / name, metadata={"format": "pt"})
        places |= dict.fromkeys(state, name)
        n_bytes += sum(value.nbytes for value in state.values())
    if len(shards) > 1:
        index = {"metadata": {"total_size": n_bytes}, "weight_map": places}
        (target / SAFETENSORS_INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")
    for path in folder.iterdir():
        if path.is_file() and path.suffix in (".json", ".model", ".txt") and path.name != BIN_INDEX:
            shutil.copy2(path, target / path.name)


def _read_bin(shard: Path) -> dict[str, torch.Tensor]:
    # Restricted: `weights_only` unpickles tensors and plain containers and runs nothing. torch's own flaw in that
    # (CVE-2025-32434) is fixed in 2.6, the oldest torch that the package allows.
    try:
        state = torch.load(shard, map_location="cpu", weights_only=True, mmap=False)
    except Exception as error:
        # A damaged file raises errors of many classes, IndexError and struct.error among them.
        if out_of_memory(error):
            raise
        said = f"{type(error).__name__}: {error}"
        raise DataError(f"{shard}: is not a plain weight file; nothing in it was run ({said})") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise DataError(f"{shard}: must hold named tensors only")
    return state
