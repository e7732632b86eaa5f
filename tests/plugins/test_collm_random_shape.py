"""`random-shape` and the dataset `tiny`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from collm.component import BuildContext
from collm.data.checks import check_table
from collm.errors import SpecError
from collm.registry import default_registry
from collm.spec.component_config import component_config
from collm.testing.plugin_check import check_component
from collm_tiny.config import RandomShapeConfig
from collm_tiny.random_shape import build

CPU = torch.device("cpu")


def make(**settings: Any) -> Any:
    registry = default_registry()
    component = registry.get("backbone", "random-shape")
    config = component_config(component, settings, registry)
    return component.load_factory()(config, context=BuildContext(cache_dir=Path("unused"), find=registry.get))


@pytest.mark.parametrize(("architecture", "name"), [("llama", "LlamaForCausalLM"), ("qwen2", "Qwen2ForCausalLM")])
def test_has_the_shape_asked_for(architecture: str, name: str) -> None:
    backbone = make(architecture=architecture, n_layers=3, n_key_value_heads=2, tied_embeddings=True)
    state = torch.get_rng_state()
    lm = backbone.load(dtype=torch.bfloat16, device=CPU)
    assert torch.equal(state, torch.get_rng_state())
    assert type(lm).__name__ == name
    assert {parameter.dtype for parameter in lm.parameters()} == {torch.bfloat16}
    assert not any(parameter.requires_grad for parameter in lm.parameters())
    facts = backbone.describe()
    assert facts["layers"] == 3
    assert facts["parameters"] == sum(parameter.numel() for parameter in lm.parameters())
    assert lm.lm_head.weight.data_ptr() == lm.get_input_embeddings().weight.data_ptr()


def test_weights_come_from_the_seed_alone() -> None:
    first, again, other = (make(seed=seed).load(dtype=torch.float32, device=CPU) for seed in (0, 0, 1))
    for one, two in zip(first.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)
    assert make().content_hash() == make().content_hash() != make(seed=1).content_hash()


def test_reads_with_another_backbones_tokenizer() -> None:
    backbone = make(tokenizer_of={"name": "tiny"})
    assert backbone.tokenizer().decode(backbone.tokenizer().encode(" Heat (1995)")) == " Heat (1995)"
    assert backbone.content_hash() != make().content_hash()


def test_vocabulary_must_hold_the_tokenizer() -> None:
    context = BuildContext(cache_dir=Path("unused"))
    small = RandomShapeConfig(name="random-shape").model_copy(update={"vocabulary_size": 100})
    with pytest.raises(SpecError, match=r"backbone.vocabulary_size: 100, but the tokenizer gives id \d+"):
        build(small, context=context).tokenizer()


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"hidden_size": 250}, "even multiple of n_heads"), ({"n_key_value_heads": 3}, "multiple of n_key_value_heads")],
)
def test_impossible_shape(settings: dict[str, int], message: str) -> None:
    registry = default_registry()
    config = registry.get("backbone", "random-shape").config
    with pytest.raises(ValidationError, match=message):
        config(name="random-shape", **settings)


@pytest.mark.parametrize(("kind", "name"), [("backbone", "random-shape"), ("dataset", "tiny")])
def test_keeps_the_contract(kind: Any, name: str, tmp_path: Path) -> None:
    registry = default_registry()
    results = check_component(registry.get(kind, name), registry=registry, cache_dir=tmp_path)
    assert [(each.name, each.fault) for each in results if not each.ok] == []


def test_dataset_is_sound_and_varied() -> None:
    component = default_registry().get("dataset", "tiny")
    table = component.load_factory()(
        component.config(name="tiny", n_users=200, n_items=400), context=BuildContext(Path("unused"))
    ).load()
    check_table(table)
    assert len(set(table.titles)) == 401
    assert 0.3 < table.frame["label"].mean() < 0.7
    with pytest.raises(ValidationError, match="rows_per_user 60 must be at most n_items 50"):
        component.config(name="tiny", n_items=50, rows_per_user=60)
