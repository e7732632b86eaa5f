"""`vicuna-7b` and `qwen2-1.5b` on tiny checkpoints of their architectures, through the plugins' own code."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from model_folders import write_llama, write_qwen2

from collm.component import BuildContext
from collm.errors import DataError
from collm.registry import default_registry

BACKBONES = {"vicuna-7b": write_llama, "qwen2-1.5b": write_qwen2}


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_folder_of_ones_own_loads(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    component = default_registry().get("backbone", name)
    folder = tmp_path / "copy"
    folder.mkdir()
    BACKBONES[name](folder)
    config = component.config(name=name, path=folder, gradient_checkpointing=True)
    backbone = component.load_factory()(config, context=BuildContext(cache_dir=tmp_path))
    lm = backbone.load(dtype=dtype, device=torch.device("cpu"))
    assert {p.dtype for p in lm.parameters()} == {dtype}
    assert backbone.lora_targets == ("q_proj", "v_proj")
    assert all(type(layer.forward).__name__ == "partial" for layer in lm.model.layers[:-1])


def test_answer_words_follow_each_models_tokenizer(tmp_path: Path) -> None:
    words = {}
    for name, write in BACKBONES.items():
        component = default_registry().get("backbone", name)
        folder = tmp_path / name
        folder.mkdir()
        write(folder)
        settings = component.profiles.get("reference", {})
        config = component.config(name=name, path=folder, **settings)
        backbone = component.load_factory()(config, context=BuildContext(cache_dir=tmp_path))
        words[name] = (backbone.tokenizer().answer.positive_word, backbone.tokenizer().bos_ids)
    # Fact 3: word-initial for Llama, plain for Qwen; fact 4: Qwen puts nothing before a prompt.
    assert words == {"vicuna-7b": (" Yes", (1,)), "qwen2-1.5b": ("Yes", ())}


@pytest.mark.parametrize("name", BACKBONES)
def test_weights_that_are_not_there_are_named_with_what_to_do(name: str, tmp_path: Path) -> None:
    component = default_registry().get("backbone", name)
    context = BuildContext(cache_dir=tmp_path)
    with pytest.raises(DataError, match=rf"backbone '{name}'.*run 'collm fetch {name}'"):
        component.load_factory()(component.config(name=name), context=context)
    with pytest.raises(DataError, match="nowhere: no such folder"):
        component.load_factory()(component.config(name=name, path=tmp_path / "nowhere"), context=context)
