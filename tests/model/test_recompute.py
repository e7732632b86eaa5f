"""Activations computed again: the same numbers, fewer of them kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from model_fakes import TableEncoder, random_prompts, tiny_recommender

from collm.errors import DataError
from collm.model.hf_loading import recompute_layers
from collm.model.prefix.batch import build_batch


def gradients_and_kept_bytes(recommender, share, groups):
    prompts, rows = random_prompts(np.random.default_rng(0), [4, 3], tokens_per_slot=1)
    recommender.set_trainable(groups)
    batch = build_batch(prompts, np.arange(7), encoders={"": rows}, share=share)
    kept = 0

    def keep(tensor):
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    torch.manual_seed(3)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        scores = recommender(batch)
    scores.sum().backward()
    found = {n: p.grad.clone() for group in groups for n, p in recommender.parameter_groups()[group].items()}
    recommender.zero_grad()
    return found, kept


@pytest.mark.parametrize("share", ["none", "through-user", "both"])
@pytest.mark.parametrize("groups", [("lora",), ("projector",), ("lora", "projector")])
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_gradients_are_the_same_bits_dropout_included(architecture, share, groups):
    recommender = tiny_recommender(architecture, dropout=0.3, encoder=TableEncoder())
    expected, all_kept = gradients_and_kept_bytes(recommender, share, groups)
    assert recompute_layers(recommender.lm) == 2
    found, kept = gradients_and_kept_bytes(recommender, share, groups)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert kept < 0.6 * all_kept


def test_nothing_changes_without_gradient():
    recommender = tiny_recommender(encoder=TableEncoder())
    prompts, rows = random_prompts(np.random.default_rng(0), [3, 2], tokens_per_slot=1)
    batch = build_batch(prompts, np.arange(5), encoders={"": rows}, share="both")
    with torch.no_grad():
        expected = recommender(batch)
        recompute_layers(recommender.lm)
        assert torch.equal(recommender(batch), expected)


def test_a_model_without_a_list_of_layers_is_refused():
    with pytest.raises(DataError, match=r"Linear has no list of decoder layers.*set it to false"):
        recompute_layers(torch.nn.Linear(2, 2))
