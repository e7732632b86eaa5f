"""A model folder is whole or refused with its reason, from names and headers alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from collm.contracts.model_folder import check_model_folder, weight_names
from collm.errors import DataError

WEIGHTS = save({"model.layers.0.self_attn.q_proj.weight": np.ones((2, 3), np.float32), "lm_head.weight": np.ones(4)})
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:07\nsize 538090408\n"


def write(folder: Path, **files: bytes | dict[str, object]) -> Path:
    folder.mkdir(exist_ok=True)
    given_files = {"config.json": {"model_type": "llama"}, "tokenizer.json": {}, "model.safetensors": WEIGHTS, **files}
    for name, content in given_files.items():
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        (folder / name).write_bytes(data)
    return folder


def test_a_whole_folder_names_its_weights(tmp_path: Path) -> None:
    check_model_folder(write(tmp_path / "m"))
    assert weight_names(tmp_path / "m") == {"model.layers.0.self_attn.q_proj.weight", "lm_head.weight"}


@given(st.integers(0, len(WEIGHTS) - 1))
def test_weights_cut_anywhere_are_refused(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    folder = write(tmp_path_factory.mktemp("cut") / "m", **{"model.safetensors": WEIGHTS[:length]})
    with pytest.raises(DataError, match=r"model\.safetensors: (cut short|is empty)"):
        check_model_folder(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_git_lfs_pointers_are_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=f"{name}: is a Git LFS pointer, not the file itself: run `git lfs pull`"):
        check_model_folder(write(tmp_path / "m", **{name: POINTER}))


@pytest.mark.parametrize(
    "files",
    [
        {"config.json": {"quantization_config": {"quant_method": "gptq", "bits": 4}}},
        {"config.json": {"quantization_config": {"quant_method": "AWQ"}}},
        {"quantize_config.json": {"bits": 4}},
        {"model.safetensors": save({"model.layers.0.self_attn.q_proj.qweight": np.ones(2)})},
    ],
)
def test_packed_weights_are_refused_with_the_reason(tmp_path: Path, files: dict[str, object]) -> None:
    with pytest.raises(DataError, match=r"weights are packed by .*give the folder of the model as it was before"):
        check_model_folder(write(tmp_path / "m", **files))


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"config.json": b"{"}, r"config\.json: cannot be read as JSON"),
        ({"config.json": b"[]"}, r"config\.json: holds list, not a mapping"),
        ({"config.json": b""}, r"config\.json: is empty"),
        ({"config.json": {"hidden_size": 8}}, r"config\.json: names no model_type"),
        ({"config.json": {"model_type": None}}, r"config\.json: names no model_type"),
        ({"tokenizer.json": b'{"model": {'}, r"tokenizer\.json: cannot be read as JSON"),
        (
            {"model.safetensors.index.json": {"weight_map": {"a": "model-00002.safetensors"}}},
            r"model-00002\S+: missing",
        ),
        ({"model.safetensors.index.json": {}}, "has no `weight_map`"),
        ({"model.safetensors": b"\xff" * 40}, "cut short or not a safetensors file"),
        ({"model.safetensors": WEIGHTS + b"x"}, "cut short or not a safetensors file"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, files: dict[str, object], said: str) -> None:
    with pytest.raises(DataError, match=said):
        check_model_folder(write(tmp_path / "m", **files))


def test_an_adapter_beside_the_weights_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", **{"adapter_config.json": {"peft_type": "LORA"}})
    with pytest.raises(DataError, match=r"holds an adapter \(adapter_config\.json\), .*merge it into the weights"):
        check_model_folder(folder)


def test_other_weights_and_half_downloads_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "model.gguf")
    with pytest.raises(DataError, match=r"has no weights .*model\.gguf is in a form that is not read here"):
        check_model_folder(folder)
    (folder / "model.gguf").rename(folder / "x.incomplete")
    with pytest.raises(DataError, match=r"x\.incomplete is half a download"):
        check_model_folder(folder)
    (folder / "pytorch_model.bin").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(DataError, match=r"pytorch_model\.bin: cut short"):
        check_model_folder(folder)


def test_a_hub_id_is_recognised(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'meta-llama/Llama-3\.2-1B' looks like a model of the Hugging Face hub"):
        check_model_folder(tmp_path / "meta-llama" / "Llama-3.2-1B")


def test_the_nearest_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "smollm2").mkdir()
    with pytest.raises(DataError, match=r"smolm2: no such folder \(did you mean '.*smollm2'\?\)"):
        check_model_folder(tmp_path / "smolm2")
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(DataError, match="is a file; give the folder"):
        check_model_folder(tmp_path / "file")
