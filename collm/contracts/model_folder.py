"""What a Hugging Face model folder must hold, read from names and headers alone: no torch, no weights in memory."""

from __future__ import annotations

import difflib
import json
import re
import zipfile
from pathlib import Path
from typing import Any

from collm.errors import DataError

CONFIG = "config.json"
# Folder of the user cache that holds fetched weights.
WEIGHTS = "weights"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
SAFETENSORS_INDEX = "model.safetensors.index.json"
BIN_INDEX = "pytorch_model.bin.index.json"
CHAT_FILES = ("chat_template.jinja", "chat_template.json")
# What decides the model's numbers; README, licence and chat templates do not.
MODEL_FILES = (
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
# Modules with weights in a decoder of the Llama kind, for backbones that are made or converted here.
LLAMA_MODULES = frozenset(
    {
        *(f"model.layers.0.self_attn.{each}_proj" for each in "qkvo"),
        *(f"model.layers.0.mlp.{each}_proj" for each in ("gate", "up", "down")),
        "model.embed_tokens",
        "lm_head",
    }
)
# Ways to store weights that only a library of their own reads.
_PACKED = ("aqlm", "auto-round", "awq", "eetq", "exl2", "exl3", "gptq", "higgs", "hqq", "quark", "spqr", "vptq")
_PACKED_CONFIGS = {"quantize_config.json": "gptq", "quant_config.json": "awq"}
_ADAPTER = "adapter_config.json"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_LFS = b"version https://git-lfs.github.com/spec"
_HEADER_LIMIT = 100_000_000


def check_model_folder(folder: Path) -> None:
    """Accepts a folder that holds a whole model.

    Args:
        folder: The folder.

    Raises:
        DataError: If it, its config, its tokenizer or its weights are missing or cut short, if a file is a Git LFS
            pointer, or if the weights are in a form that only a library of its own reads.
    """
    if not folder.is_dir():
        raise DataError(_absent(folder))
    settings = _read_config(folder)
    _check_quantisation(folder, settings)
    if not isinstance(settings.get("model_type"), str):
        raise DataError(f'{folder / CONFIG}: names no model_type (as in "llama"): save the model there again')
    if (folder / _ADAPTER).is_file():
        raise DataError(
            f"{folder}: holds an adapter ({_ADAPTER}), which would be loaded with the model; merge it into the weights "
            "(peft: merge_and_unload, then save_pretrained), or take the adapter's files out of the folder"
        )
    tokenizers = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
    if not tokenizers:
        raise DataError(
            f"{folder}: has no tokenizer (one of {', '.join(TOKENIZER_FILES)}); save the tokenizer there too"
        )
    for path in tokenizers:
        _check_bytes(path)
        if path.suffix == ".json":
            read_json(path)
    names = weight_names(folder)
    if names is not None and any(name.endswith((".qweight", ".qzeros")) for name in names):
        raise DataError(_packed(folder, "gptq or awq"))


def has_chat_template(folder: Path) -> bool:
    """Whether a model folder brings a chat template, in a file of its own or in its tokenizer's settings."""
    settings = folder / "tokenizer_config.json"
    if any((folder / name).is_file() for name in CHAT_FILES):
        return True
    return settings.is_file() and bool(read_json(settings).get("chat_template"))


def hub_folder(repository: str, revision: str | None) -> str:
    """Returns the name of the folder below `WEIGHTS` of the cache that holds a fetched checkpoint of the hub."""
    return repository.replace("/", "--") + (f"@{revision.replace('/', '-')}" if revision else "")


def safetensors_files(folder: Path) -> list[Path]:
    """Returns the folder's safetensors weight files in name order."""
    return sorted(folder.glob("model*.safetensors"))


def bin_files(folder: Path) -> list[Path]:
    """Returns the folder's pickled weight files in name order."""
    return sorted(folder.glob("pytorch_model*.bin"))


def weight_names(folder: Path) -> frozenset[str] | None:
    """Returns the names of the weights of a model folder, None where only their pickle says them.

    Args:
        folder: A model folder.

    Raises:
        DataError: If weights are missing or cut short.
    """
    shards, bins = safetensors_files(folder), bin_files(folder)
    if not shards and not bins:
        raise DataError(f"{folder}: has no weights (model*.safetensors, or pytorch_model*.bin){_other_weights(folder)}")
    listed = _index(folder, SAFETENSORS_INDEX if shards else BIN_INDEX)
    for path in bins if not shards else ():
        _check_bin(path)
    for name in sorted(set(listed.values())):
        if not (folder / name).is_file():
            raise DataError(f"{folder / name}: missing, and the folder's index names it: get the model again")
    if not shards:
        return frozenset(listed) or None
    return frozenset(name for path in shards for name in tensor_header(path)[1])


def weight_shapes(folder: Path) -> dict[str, tuple[int, ...]] | None:
    """Returns the shapes of the weights of a model folder by name, None where only their pickle says them.

    Raises:
        DataError: If weights are missing or cut short.
    """
    shards = safetensors_files(folder)
    return {name: shape for path in shards for name, shape in tensor_header(path)[1].items()} if shards else None


def _absent(folder: Path) -> str:
    if folder.exists():
        return f"{folder}: is a file; give the folder of a Hugging Face model (config.json and so on)"
    as_id = "/".join(folder.parts[-2:])
    if not folder.parent.exists() and HUB_ID.fullmatch(as_id):
        return (
            f"{folder}: no such folder. '{as_id}' looks like a model of the Hugging Face hub, and a folder is needed "
            f"here: download it (hf download {as_id} --local-dir {folder.name}) and give that folder, or use the "
            f"backbone hf with `checkpoint: {as_id}` (collm fetch hf --set checkpoint={as_id})"
        )
    return (
        f"{folder}: no such folder{nearest_folder(folder)}; give the folder of a Hugging Face model (config.json and "
        "so on)"
    )


def nearest_folder(folder: Path) -> str:
    """Returns a hint at a folder beside a missing one whose name is close, empty where there is none."""
    near: list[str] = []
    if folder.parent.is_dir():
        names = [path.name for path in folder.parent.iterdir() if path.is_dir()]
        near = difflib.get_close_matches(folder.name, names, n=1)
    return f" (did you mean '{folder.with_name(near[0])}'?)" if near else ""


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        raise DataError(
            f"{folder}: has no {CONFIG}, so it is not a Hugging Face model folder; save_pretrained writes it"
        )
    _check_bytes(path)
    return read_json(path)


def _check_quantisation(folder: Path, settings: dict[str, Any]) -> None:
    found = settings.get("quantization_config")
    method = str(found.get("quant_method", "")).lower() if isinstance(found, dict) else ""
    beside = [kind for name, kind in _PACKED_CONFIGS.items() if (folder / name).is_file()]
    if method in _PACKED or beside:
        raise DataError(_packed(folder, method or beside[0]))


def _packed(folder: Path, method: str) -> str:
    return (
        f"{folder}: its weights are packed by {method}, a form that only a library of its own reads; give the folder "
        "of the model as it was before (backbone.four_bit: true makes 4 bits of it when it is loaded)"
    )


def _other_weights(folder: Path) -> str:
    others = sorted(path.name for pattern in ("*.gguf", "*.pth", "*.h5", "*.msgpack") for path in folder.glob(pattern))
    partial = sorted(path.name for path in folder.glob("*.incomplete"))
    if partial:
        return f"; {partial[0]} is half a download: get the model again"
    return f"; {others[0]} is in a form that is not read here" if others else ""


def _index(folder: Path, name: str) -> dict[str, str]:
    path = folder / name
    if not path.is_file():
        return {}
    _check_bytes(path)
    listed = read_json(path).get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(each, str) and "/" not in each for each in listed.values()):
        raise DataError(f"{path}: has no `weight_map` of weights and their files: get the model again")
    return listed


def tensor_header(path: Path) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
    """Returns the metadata of a safetensors file and the shapes of its tensors by name.

    Args:
        path: The file; only its header is read, and its length must be what the header says.

    Raises:
        DataError: If it is cut short or not such a file.
    """
    size = _check_bytes(path)
    broken = f"{path}: cut short or not a safetensors file"
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(size - 8, _HEADER_LIMIT):
            raise DataError(f"{broken} ({size:,} bytes): get it again")
        try:
            header = json.loads(stream.read(length))
            tensors = {name: each for name, each in header.items() if name != "__metadata__"}
            end = 8 + length + max((int(each["data_offsets"][1]) for each in tensors.values()), default=0)
            shapes = {name: tuple(map(int, each["shape"])) for name, each in tensors.items()}
            metadata = {str(key): str(value) for key, value in (header.get("__metadata__") or {}).items()}
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
            raise DataError(f"{broken} (its header cannot be read: {error}): get it again") from error
    if size != end:
        raise DataError(f"{broken} ({size:,} bytes, its header says {end:,}): get it again")
    return metadata, shapes


def _check_bin(path: Path) -> None:
    _check_bytes(path)
    with path.open("rb") as stream:
        packed = stream.read(2) == b"PK"
    if packed and not zipfile.is_zipfile(path):
        raise DataError(f"{path}: cut short: get it again")


def _check_bytes(path: Path) -> int:
    """Refuses an empty file and a Git LFS pointer; returns the size."""
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            beginning = stream.read(len(_LFS))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    if not size:
        raise DataError(f"{path}: is empty: get it again")
    if beginning == _LFS:
        raise DataError(
            f"{path}: is a Git LFS pointer, not the file itself: run `git lfs pull` in its repository, or download the "
            "file from the hub"
        )
    return size


def read_json(path: Path) -> dict[str, Any]:
    """Returns the mapping that a JSON file holds.

    Raises:
        DataError: If it cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}): get it again") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds {type(content).__name__}, not a mapping: get it again")
    return content


def card_licence(folder: Path) -> str:
    """Returns the `license` of the model card (README.md) in a folder, empty where it has none."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    head = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    found = re.search(r"^license:[ \t]*['\"]?([\w.+-]+)", head[1], re.MULTILINE) if head else None
    return found[1] if found else ""
