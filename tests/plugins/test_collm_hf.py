"""The `hf` plugin; folder loading itself is tested with `collm.model.hf_backbone`."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError
from transformers import LlamaConfig, LlamaForCausalLM

from collm.component import BuildContext
from collm.errors import DataError
from collm.registry import default_registry
from collm_hf.config import HfConfig
from collm_tiny.tokenizer import tiny_tokenizer


def test_builds_from_a_folder(tmp_path: Path) -> None:
    component = default_registry().get("backbone", "hf")
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape)).save_pretrained(tmp_path)
    config = component.config(name="hf", path=tmp_path, answer_space=False)
    backbone = component.load_factory()(config, context=BuildContext(cache_dir=tmp_path))
    assert backbone.hidden_size == 16
    assert backbone.tokenizer().answer.positive_word == "Yes"


def test_missing_folder(tmp_path: Path) -> None:
    component = default_registry().get("backbone", "hf")
    config = HfConfig(name="hf", path=tmp_path / "nowhere")
    with pytest.raises(DataError, match="nowhere: no such folder"):
        component.load_factory()(config, context=BuildContext(cache_dir=tmp_path))


def test_path_is_required() -> None:
    with pytest.raises(ValidationError, match="path"):
        HfConfig(name="hf")
