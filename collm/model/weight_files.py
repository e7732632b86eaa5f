"""Files of a local Hugging Face model folder: what is there, its hash, and one-time conversion of .bin shards."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import secrets
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from collm.errors import DataError

logger = logging.getLogger(__name__)

CONFIG = "config.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
SAFETENSORS_INDEX = "model.safetensors.index.json"
BIN_INDEX = "pytorch_model.bin.index.json"
# What decides the model's numbers; README, licence and chat templates do not.
_HASHED = (
    "*.safetensors",
    "*.bin",
    "*.index.json",
    "*.model",
    CONFIG,
    "tokenizer*.json",
    "vocab.*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)


def check_model_folder(folder: Path) -> None:
    """Accepts a folder that holds a model.

    Raises:
        DataError: If it, its config, its tokenizer or its weights are missing.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the folder of a Hugging Face model (config.json and so on)")
    if not (folder / CONFIG).is_file():
        raise DataError(
            f"{folder}: has no {CONFIG}, so it is not a Hugging Face model folder; save_pretrained writes it"
        )
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise DataError(
            f"{folder}: has no tokenizer (one of {', '.join(TOKENIZER_FILES)}); save the tokenizer there too"
        )
    if not has_safetensors(folder) and not bin_files(folder):
        raise DataError(f"{folder}: has no weights (model*.safetensors, or pytorch_model*.bin)")


def has_safetensors(folder: Path) -> bool:
    """Whether the folder's weights are safetensors."""
    return any(folder.glob("model*.safetensors"))


def bin_files(folder: Path) -> list[Path]:
    """Returns the folder's pickled weight files in name order."""
    return sorted(folder.glob("pytorch_model*.bin"))


def folder_hash(folder: Path) -> str:
    """Returns a hex digest over names and content of all files that decide the model's numbers.

    Raises:
        DataError: If a file cannot be read.
    """
    digest = hashlib.sha256()
    names = sorted({path.name for pattern in _HASHED for path in folder.glob(pattern) if path.is_file()})
    for name in names:
        try:
            with (folder / name).open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise DataError(f"{folder / name}: cannot be read ({error.strerror})") from error
        digest.update(f"{name}\0{content}\n".encode())
    return digest.hexdigest()


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
    if target.is_dir():
        return target
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir(parents=True)
        write(temporary)
        try:
            temporary.rename(target)
        except OSError:
            # Another process was faster with the same content.
            if not target.is_dir():
                raise
    except OSError as error:
        raise DataError(
            f"{target}: cannot be written ({error}); free some space or use another cache folder"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def converted_bins(folder: Path, target: Path) -> Path:
    """Returns a folder with the same model in safetensors, converting it once.

    Args:
        folder: Model folder with pickled weights; they are read with `weights_only=True`, so no code in them runs.
        target: Where the converted folder lies, or is put.

    Raises:
        DataError: If a file is no plain weight file, or the disk cannot take the copy.
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
    try:
        state = torch.load(shard, map_location="cpu", weights_only=True, mmap=False)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise DataError(f"{shard}: is no plain weight file; nothing in it was run ({error})") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise DataError(f"{shard}: must hold named tensors only")
    return state
