"""Trees on a CUDA device: scores and gradients of plain rows on the processor, for both ways to attend there."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from model_fakes import TableEncoder, random_prompts, tiny_recommender

from collm.model.prefix.attention_cpu import BlockAttention, Nodes
from collm.model.prefix.attention_gpu import FlexAttention, LevelAttention
from collm.model.prefix.batch import build_batch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def moved(rows):
    """The encoder's input on the device."""
    parts = {field.name: getattr(rows, field.name) for field in dataclasses.fields(rows)}
    return type(rows)(**{name: part.cuda() if torch.is_tensor(part) else part for name, part in parts.items()})


def scores_and_gradients(recommender, prompts, rows, share, device):
    recommender.set_trainable(("lora", "projector"))
    encoders = {"": moved(rows) if device == "cuda" else rows}
    scores = recommender(build_batch(prompts, np.arange(len(prompts)), encoders=encoders, share=share, device=device))
    weights = torch.linspace(-1, 2, len(scores), device=device)
    parameters = [p for group in ("lora", "projector") for p in recommender.parameter_groups()[group].values()]
    gradients = torch.autograd.grad((scores * weights).sum(), parameters)
    return scores.detach().cpu(), torch.cat([gradient.reshape(-1).cpu() for gradient in gradients])


@pytest.mark.parametrize("share", ["none", "before-user", "through-user", "both"])
def test_scores_and_gradients_are_those_of_the_processor(share):
    recommender = tiny_recommender("llama", encoder=TableEncoder())
    prompts, rows = random_prompts(np.random.default_rng(0), [1, 5, 40], tokens_per_slot=1)
    expected, slopes = scores_and_gradients(recommender, prompts, rows, "none", "cpu")
    scores, found = scores_and_gradients(copy.deepcopy(recommender).cuda(), prompts, rows, share, "cuda")
    assert (scores - expected).abs().max() < 1e-4
    assert (found - slopes).norm() / slopes.norm() < 1e-3


@pytest.mark.parametrize("way", [LevelAttention, FlexAttention])
@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float32, 1e-3), (torch.bfloat16, 3e-2)])
def test_attention_and_its_gradients_are_those_of_the_processor(way, dtype, allowed):
    torch.manual_seed(0)
    lengths = [torch.tensor([9]), torch.tensor([130, 0, 61]), torch.tensor([7, 30, 12, 5, 25])]
    parents = [torch.tensor([0]), torch.tensor([0, 0, 0]), torch.tensor([0, 0, 1, 2, 2])]
    levels, first = [], 0
    for each, parent in zip(lengths, parents, strict=True):
        levels.append(Nodes(first + torch.cumsum(each, 0) - each, each, parent))
        first += int(each.sum())
    inputs = [torch.randn(first, heads, 64, requires_grad=True) for heads in (4, 2, 2)]
    expected = BlockAttention(levels, 0)(*inputs, None)
    weights = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected * weights).sum(), inputs)
    there = [x.detach().to("cuda", dtype).requires_grad_() for x in inputs]
    on_device = [Nodes(nodes.first.cuda(), nodes.lengths.cuda(), nodes.parent.cuda()) for nodes in levels]
    found = way(on_device, 0)(*there, None)
    assert (found.cpu().float() - expected).abs().max() < 10 * allowed
    got = torch.autograd.grad((found * weights.to("cuda", dtype)).sum(), there)
    for a, b in zip(wanted, got, strict=True):
        assert (a - b.cpu().float()).norm() / a.norm() < allowed
