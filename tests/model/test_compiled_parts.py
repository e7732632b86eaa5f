"""Compiled norms and feed-forward parts give what the model gives without, adapters, dropout and gradients included."""

from __future__ import annotations

import copy

import pytest
import torch
from model_fakes import tiny_lm

from collm.contracts.tuning import LoraConfig
from collm.errors import DataError
from collm.model import hf_loading
from collm.model.hf_loading import compile_parts, has_compiler
from collm.model.parameters import add_lora, is_lora_dropout, lora_parameters

CPU = torch.device("cpu")


def logits_and_gradients(lm, ids):
    for name, module in lm.named_modules():
        if is_lora_dropout(name, module):
            module.train()
    torch.manual_seed(3)
    logits = lm(input_ids=ids).logits
    return logits, torch.autograd.grad(logits.square().sum(), list(lora_parameters(lm).values()))


@pytest.mark.skipif(not has_compiler(), reason="there is no C++ compiler")
@pytest.mark.parametrize(("targets", "n_parts"), [(["q_proj", "v_proj"], 3), ("all-linear", 2)])
def test_scores_and_gradients_are_those_without(targets, n_parts):
    plain = tiny_lm()
    add_lora(plain, LoraConfig(r=2, alpha=4, dropout=0.5, target_modules=targets), ())
    for parameter in lora_parameters(plain).values():
        torch.nn.init.normal_(parameter, std=0.1)
        parameter.requires_grad_()
    compiled = copy.deepcopy(plain)
    assert compile_parts(compiled, CPU) == n_parts * (len(compiled.model.layers) - 1)
    for n_tokens in (5, 17):
        ids = torch.randint(5, 60, (1, n_tokens), generator=torch.Generator().manual_seed(n_tokens))
        expected, slopes = logits_and_gradients(plain, ids)
        found, got = logits_and_gradients(compiled, ids)
        assert (found - expected).abs().max() < 1e-4
        for a, b in zip(slopes, got, strict=True):
            assert (a - b).norm() < 1e-4 * a.norm().clamp_min(1e-3)
        with torch.inference_mode():
            assert (compiled.eval()(input_ids=ids).logits - plain.eval()(input_ids=ids).logits).abs().max() < 1e-4


def test_parts_of_a_plain_model_are_norms_and_feed_forward_parts():
    lm = tiny_lm()
    assert compile_parts(lm, torch.device("cuda")) == 3 * (len(lm.model.layers) - 1)
    assert lm.model.norm._compiled_call_impl is None
    assert lm.model.layers[-1].mlp._compiled_call_impl is None
    assert lm.model.layers[0].mlp._compiled_call_impl is not None
    assert lm.model.layers[0].self_attn._compiled_call_impl is None


def test_a_processor_without_compiler_is_refused(monkeypatch):
    monkeypatch.setattr(hf_loading, "has_compiler", lambda: False)
    with pytest.raises(DataError, match=r"backbone\.compile: needs a C\+\+ compiler.*set it to false"):
        compile_parts(tiny_lm(), CPU)


def test_a_model_without_list_of_layers_is_refused():
    with pytest.raises(DataError, match=r"backbone\.compile: Linear has no list of decoder layers"):
        compile_parts(torch.nn.Linear(2, 2), CPU)
