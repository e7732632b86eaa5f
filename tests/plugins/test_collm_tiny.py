"""The `tiny` backbone."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from collm.component import BuildContext
from collm.registry import default_registry
from collm_tiny.backbone import TinyBackbone, build
from collm_tiny.config import TinyConfig

CPU = torch.device("cpu")


def make(**settings: int) -> TinyBackbone:
    return build(TinyConfig(name="tiny", **settings), context=BuildContext(cache_dir=Path("unused")))


def test_is_registered() -> None:
    component = default_registry().get("backbone", "tiny")
    assert component.load_factory() is build
    assert component.config is TinyConfig


@pytest.mark.parametrize(
    "text",
    [
        '#Question: A user has given high ratings to: "Heat (1995)".',
        " ü 映画 🎬\n",
        "</s><pad> Yesterday",
        "  two  spaces ",
    ],
)
def test_text_survives_and_no_special_token_is_read(text: str) -> None:
    tokenizer = make().tokenizer()
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert min(ids) > 2


def test_frequent_words_are_one_token() -> None:
    tokenizer = make().tokenizer()
    assert len(tokenizer.encode(" would enjoy the movie titled")) == 5
    answer = tokenizer.answer
    assert [tokenizer.decode([answer.positive]), tokenizer.decode([answer.negative])] == [" Yes", " No"]
    assert tokenizer.bos_ids == ()
    assert tokenizer.pad_id == 0


def test_weights_come_from_the_seed_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = make().load(dtype=torch.float32, device=CPU)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(6)
    again = make().load(dtype=torch.float32, device=CPU)
    other = make(seed=1).load(dtype=torch.float32, device=CPU)
    for (name, one), two in zip(first.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(one, two), name
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)
    assert not first.training
    assert not any(parameter.requires_grad for parameter in first.parameters())


def test_bfloat16() -> None:
    model = make().load(dtype=torch.bfloat16, device=CPU)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert torch.isfinite(model(torch.tensor([[5, 6, 7]])).logits).all()


def test_hash_and_facts_follow_the_settings() -> None:
    hashes = {make().content_hash(), make(seed=1).content_hash(), make(n_layers=1).content_hash()}
    assert len(hashes) == 3
    assert make().content_hash() in hashes
    facts = make(hidden_size=16).describe()
    assert facts["hidden_size"] == 16
    assert "random" in facts["weights"]


def test_loads_in_milliseconds() -> None:
    backbone = make()
    start = time.perf_counter()
    backbone.load(dtype=torch.float32, device=CPU)
    assert time.perf_counter() - start < 1
