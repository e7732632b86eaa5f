"""Dropout of adapters: rate, scale, gradient, seeding; merging adapters into the weights."""

from __future__ import annotations

import pytest
import torch
from tiny_architectures import build
from torch import nn

from collm.contracts.tuning import LoraConfig
from collm.errors import RunError
from collm.model.parameters import LoraLinear, add_lora, drop, lora_parameters, merge_lora
from collm.testing.fakes import tiny_language_model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rate_scale_and_gradient(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.ones(1000, 300, dtype=dtype, requires_grad=True)
    y = drop(nn.Dropout(0.25).train(), x)
    is_dropped = y.detach() == 0
    assert float(is_dropped.float().mean()) == pytest.approx(0.25, abs=0.005)
    assert float(y.detach()[~is_dropped].unique()) == pytest.approx(1 / 0.75, rel=0.01)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    # Neither rows nor columns are dropped together.
    assert is_dropped.float().mean(0).max() < 0.33
    assert is_dropped.float().mean(1).max() < 0.4


def test_the_global_seed_decides_the_mask() -> None:
    dropout, x = nn.Dropout(0.5).train(), torch.ones(50, 50)
    torch.manual_seed(3)
    first, second = drop(dropout, x), drop(dropout, x)
    torch.manual_seed(3)
    assert torch.equal(first, drop(dropout, x))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("dropout", [nn.Dropout(0.5).eval(), nn.Dropout(0.0).train(), nn.Identity()])
def test_nothing_is_dropped_where_nothing_should_be(dropout: nn.Module) -> None:
    state = torch.get_rng_state()
    assert torch.equal(drop(dropout, torch.ones(9, 9)), torch.ones(9, 9))
    assert torch.equal(torch.get_rng_state(), state)


def test_merging_keeps_the_function_and_leaves_no_adapter() -> None:
    torch.manual_seed(0)
    lm = tiny_language_model()
    add_lora(lm, LoraConfig(dropout=0.0), ("q_proj", "v_proj"))
    for parameter in lora_parameters(lm).values():
        nn.init.normal_(parameter, std=0.1)
    ids = torch.tensor([[1, 5, 9, 4]])
    with torch.no_grad():
        before = lm(input_ids=ids).logits
        assert merge_lora(lm) == 4
        after = lm(input_ids=ids).logits
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)
    assert not any(isinstance(module, LoraLinear) for module in lm.modules())
    assert merge_lora(lm) == 0


def test_gpt2s_transposed_layers_take_adapters_and_merge() -> None:
    lm = build("gpt2")
    with pytest.raises(
        RunError, match="no linear module is called q_proj; linear modules are c_attn, c_fc, c_proj, lm_head"
    ):
        add_lora(lm, LoraConfig(), ("q_proj",))
    plain = build("gpt2")
    names = add_lora(lm, LoraConfig(r=4, dropout=0.0), ("c_attn",))
    assert len(names) == 4
    ids = torch.arange(12)[None]
    torch.testing.assert_close(lm(input_ids=ids).logits, plain(input_ids=ids).logits)
    generator = torch.Generator().manual_seed(0)
    for parameter in lora_parameters(lm).values():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    tuned = lm(input_ids=ids).logits.detach()
    assert (tuned - plain(input_ids=ids).logits).abs().max() > 0.01
    assert merge_lora(lm) == 4
    torch.testing.assert_close(lm(input_ids=ids).logits, tuned, atol=1e-4, rtol=0)
    assert not lora_parameters(lm)


@pytest.mark.parametrize("targets", [("q_proj", "embed_tokens"), ("q_proj", "foo_proj"), ("norm",)])
def test_every_target_is_a_linear_module(targets: tuple[str, ...]) -> None:
    with pytest.raises(RunError, match=f"no linear module is called {targets[-1]}; linear modules are down_proj, "):
        add_lora(tiny_language_model(), LoraConfig(target_modules=targets), ())
