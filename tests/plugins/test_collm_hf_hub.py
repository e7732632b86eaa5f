"""`vicuna-7b` and `qwen2-1.5b` on tiny checkpoints of their architectures, through the plugin's own code."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from model_folders import write_llama, write_qwen2
from transformers import AutoTokenizer

from collm.component import BuildContext
from collm.contracts.prompt import ItemSlot, PromptTemplate, TargetTitle, Text, UserSlot
from collm.errors import DataError
from collm.prompt.encode import PromptEncoder
from collm.registry import default_registry

HYBRID = (Text("a "), UserSlot(), Text(" b "), TargetTitle(), Text(" c "), ItemSlot(), Text("? #Answer:"))
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
    with pytest.raises(DataError, match="no such folder"):
        component.load_factory()(component.config(name=name, path=tmp_path / "elsewhere"), context=context)
    with pytest.raises(DataError, match="nowhere: no such folder"):
        component.load_factory()(component.config(name=name, path=tmp_path / "nowhere"), context=context)


def test_the_papers_checkpoints_are_named_and_others_are_a_choice(tmp_path: Path) -> None:
    registry = default_registry()
    qwen, vicuna = registry.get("backbone", "qwen2-1.5b"), registry.get("backbone", "vicuna-7b")
    assert qwen.config(name="qwen2-1.5b").checkpoint == qwen.profiles["paper"]["checkpoint"] == "Qwen/Qwen2-1.5B"
    assert vicuna.profiles["paper"]["version"] == vicuna.profiles["reference"]["version"] == "v0"
    context = BuildContext(cache_dir=tmp_path)
    (tmp_path / "weights" / "Qwen--Qwen2-1.5B").mkdir(parents=True)
    write_qwen2(tmp_path / "weights" / "Qwen--Qwen2-1.5B")
    assert qwen.load_factory()(qwen.config(name="qwen2-1.5b"), context=context).hidden_size > 0
    with pytest.raises(DataError, match=r"put a copy of Qwen/Qwen2-1.5B-Instruct"):
        other = qwen.config(name="qwen2-1.5b", checkpoint="Qwen/Qwen2-1.5B-Instruct")
        qwen.load_factory()(other, context=context)
    with pytest.raises(DataError, match=r"version v0.*backbone.path.*version: v1.5"):
        vicuna.load_factory()(vicuna.config(name="vicuna-7b", version="v0"), context=context)


def test_a_sentencepiece_prompt_begins_as_hugging_face_makes_it(tmp_path: Path) -> None:
    folder = tmp_path / "llama"
    folder.mkdir()
    write_llama(folder)
    component = default_registry().get("backbone", "vicuna-7b")
    context = BuildContext(cache_dir=tmp_path)
    tokenizer = component.load_factory()(component.config(name="vicuna-7b", path=folder), context=context).tokenizer()
    template = PromptTemplate(hybrid=(), text=(Text("#Question: would like "), TargetTitle(), Text("? #Answer:")))
    whole = AutoTokenizer.from_pretrained(folder)('#Question: would like "Heat"? #Answer:')["input_ids"]
    template = dataclasses.replace(template, hybrid=HYBRID)
    for asked in (True, False):
        encoder = PromptEncoder(template, tokenizer, ["", "Heat"], max_tokens=500, leading_space=asked)
        ids = encoder.encode(np.array([1]), np.zeros((1, 0), dtype=np.int64), "text").prompt(0).tolist()
        assert (ids == whole) == asked
