"""A tree of prompts gives the scores and gradients of the prompts one by one."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_fakes import TableEncoder, random_prompts, tiny_recommender

from collm.model import recommender as recommender_module
from collm.model.prefix import run as prefix_run
from collm.model.prefix.batch import build_batch

RECOMMENDERS = {name: tiny_recommender(name, encoder=TableEncoder()) for name in ("llama", "qwen2")}
TARGET_AWARE = {name: tiny_recommender(name, encoder=TableEncoder(target_aware=True)) for name in RECOMMENDERS}


def scores_and_gradients(recommender, prompts, rows, share, groups):
    recommender.set_trainable(groups)
    batch = build_batch(prompts, np.arange(len(prompts)), encoders={} if rows is None else {"": rows}, share=share)
    scores = recommender(batch)
    weights = torch.linspace(-1, 2, len(scores))
    parameters = {f"{group}.{n}": p for group in groups for n, p in recommender.parameter_groups()[group].items()}
    gradients = torch.autograd.grad((scores * weights).sum(), list(parameters.values()), allow_unused=True)
    return scores.detach(), dict(zip(parameters, gradients, strict=True)), batch


def assert_equal_to_plain(recommender, prompts, rows, share, groups):
    plain, plain_gradients, padded = scores_and_gradients(recommender, prompts, rows, "none", groups)
    shared, gradients, tree = scores_and_gradients(recommender, prompts, rows, share, groups)
    assert (plain - shared).abs().max() < 1e-4
    for name, expected in plain_gradients.items():
        if expected is None:
            assert gradients[name] is None
            continue
        error = (gradients[name] - expected).norm() / expected.norm().clamp_min(1e-6)
        assert error < 1e-4, (name, float(error))
    return padded, tree


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    branches=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    empty_history=st.booleans(),
    share=st.sampled_from(["before-user", "through-user", "both"]),
    architecture=st.sampled_from(["llama", "qwen2"]),
    groups=st.sampled_from(
        [("projector",), ("lora",), ("projector", "encoder"), ("lora", "projector"), ("lora", "projector", "encoder")]
    ),
    target_aware=st.booleans(),
    longest_in_blocks=st.sampled_from([0, 1_024]),
)
def test_scores_and_gradients_equal_those_of_single_prompts(
    seed, branches, empty_history, share, architecture, groups, target_aware, longest_in_blocks
):
    recommender = (TARGET_AWARE if target_aware else RECOMMENDERS)[architecture]
    prompts, rows = random_prompts(
        np.random.default_rng(seed), branches, tokens_per_slot=1, empty_history=empty_history
    )
    # Without blocks the attention is that of GPUs and of very long prompts.
    with mock.patch.object(prefix_run, "LONGEST_IN_BLOCKS", longest_in_blocks):
        assert_equal_to_plain(recommender, prompts, rows, "before-user" if target_aware else share, groups)


@pytest.mark.parametrize("longest_in_blocks", [0, 1_024])
@pytest.mark.parametrize("groups", [("projector", "encoder"), ("lora",)])
@pytest.mark.parametrize("share", ["before-user", "through-user", "both"])
def test_hundreds_of_branches_of_one_prefix(share, groups, longest_in_blocks, monkeypatch):
    monkeypatch.setattr(prefix_run, "LONGEST_IN_BLOCKS", longest_in_blocks)
    prompts, rows = random_prompts(np.random.default_rng(0), [300], tokens_per_slot=1)
    padded, tree = assert_equal_to_plain(RECOMMENDERS["llama"], prompts, rows, share, groups)
    assert tree.n_tokens < padded.n_tokens
    assert len(tree.tree[0].lengths) == 1
    assert len(tree.tree[-1].lengths) == 300


def test_text_prompts_without_slots_share_too():
    recommender = tiny_recommender("qwen2")
    prompts, _ = random_prompts(np.random.default_rng(1), [3, 1, 4])
    _, tree = assert_equal_to_plain(recommender, prompts, None, "through-user", ("lora",))
    assert tree.n_tokens < int(tree.lengths.sum())


def test_a_target_aware_user_vector_is_not_shared():
    recommender = tiny_recommender(encoder=TableEncoder(target_aware=True))
    prompts, rows = random_prompts(np.random.default_rng(2), [4, 4], tokens_per_slot=1)
    _, tree = assert_equal_to_plain(recommender, prompts, rows, "before-user", ("projector", "encoder"))
    assert len(tree.tree[-1].slots["user"].at) == 8


def test_the_constant_history_is_run_without_gradient(monkeypatch):
    seen = []
    run_prefix_tree = recommender_module.run_prefix_tree

    def spy(*args, **kwargs):
        seen.append(kwargs["n_constant"] > 0)
        return run_prefix_tree(*args, **kwargs)

    monkeypatch.setattr(recommender_module, "run_prefix_tree", spy)
    prompts, rows = random_prompts(np.random.default_rng(3), [3, 2], tokens_per_slot=1)
    recommender = tiny_recommender(encoder=TableEncoder())
    for groups, share in ((("projector",), "both"), (("lora",), "both"), (("projector",), "through-user")):
        scores_and_gradients(recommender, prompts, rows, share, groups)
    with torch.no_grad():
        recommender(build_batch(prompts, np.arange(5), encoders={"": rows}, share="both"))
    assert seen == [True, False, False, False]


def test_models_without_the_attention_interface_run_unshared(monkeypatch):
    prompts, rows = random_prompts(np.random.default_rng(4), [3, 2], tokens_per_slot=1)
    recommender = tiny_recommender(encoder=TableEncoder())
    batch = build_batch(prompts, np.arange(5), encoders={"": rows}, share="both")
    shared = recommender(batch)
    recommender._shares_prefixes = False
    monkeypatch.setattr(recommender_module, "run_prefix_tree", None)
    torch.testing.assert_close(recommender(batch), shared, rtol=1e-5, atol=1e-5)
