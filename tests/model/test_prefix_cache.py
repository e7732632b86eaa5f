"""Kept prefixes: the scores and gradients of prefixes that are run each time, within a bound, and never stale."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_fakes import TableEncoder, random_prompts, tiny_recommender

from collm.model.prefix.batch import build_batch
from collm.model.prefix.cache import PrefixCache, weights_version
from collm.model.prefix.levels import root_level
from collm.model.prefix.run import ComputedLevels

RECOMMENDERS = {name: tiny_recommender(name, encoder=TableEncoder()) for name in ("llama", "qwen2")}
BYTES_PER_TOKEN = 3 * 2 * 2 * 8 * 4  # layers, keys and values, heads, dimensions, float32


def cache_for(prompts, *, n_tokens: int = 10_000, group_tokens: int = 20) -> PrefixCache:
    prefixes = {prompts.prompt(row)[: prompts.before_user[row]].tobytes(): row for row in range(len(prompts))}
    found = [prompts.prompt(row)[: prompts.before_user[row]] for row in prefixes.values()]
    return PrefixCache(found, np.arange(len(found)), max_bytes=n_tokens * BYTES_PER_TOKEN, group_tokens=group_tokens)


def result(recommender, prompts, rows, chosen, *, groups=("projector", "encoder")):
    recommender.set_trainable(groups)
    part = type(rows)(user=rows.user[chosen], item=rows.item[chosen], history=rows.history[chosen])
    scores = recommender(build_batch(prompts, np.array(chosen), encoders={"": part}, share="both"))
    parameters = [p for group in groups for p in recommender.parameter_groups()[group].values()]
    gradients = torch.autograd.grad((scores * torch.linspace(-1, 2, len(scores))).sum(), parameters)
    return scores.detach(), gradients


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 1_000),
    branches=st.lists(st.integers(1, 4), min_size=1, max_size=6),
    n_tokens=st.integers(0, 40),
    group_tokens=st.integers(1, 30),
    architecture=st.sampled_from(["llama", "qwen2"]),
)
def test_scores_and_gradients_are_those_without(seed, branches, n_tokens, group_tokens, architecture):
    recommender = RECOMMENDERS[architecture]
    prompts, rows = random_prompts(np.random.default_rng(seed), branches, tokens_per_slot=1)
    cache = cache_for(prompts, n_tokens=n_tokens, group_tokens=group_tokens)
    generator = np.random.default_rng(seed)
    for _ in range(3):
        chosen = generator.permutation(len(prompts))[: generator.integers(1, len(prompts) + 1)].tolist()
        recommender.keep_prefixes(None)
        plain, plain_gradients = result(recommender, prompts, rows, chosen)
        recommender.keep_prefixes(cache)
        kept, gradients = result(recommender, prompts, rows, chosen)
        torch.testing.assert_close(kept, plain, rtol=0, atol=1e-4)
        for one, other in zip(gradients, plain_gradients, strict=True):
            assert (one - other).norm() <= 1e-4 * other.norm().clamp_min(1e-6)
        assert cache.n_bytes <= n_tokens * BYTES_PER_TOKEN
    recommender.keep_prefixes(None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bits_do_not_depend_on_what_was_asked_for_before(dtype):
    recommender = tiny_recommender(encoder=TableEncoder())
    recommender.lm.to(dtype)
    prompts, rows = random_prompts(np.random.default_rng(0), [2] * 8, tokens_per_slot=1)
    found = []
    for before in ([], [[0, 1, 2]], [[9], [14, 3]]):
        recommender.keep_prefixes(cache_for(prompts, n_tokens=30, group_tokens=15))
        for chosen in before:
            result(recommender, prompts, rows, chosen)
        found.append(result(recommender, prompts, rows, [4, 5, 8, 12])[0])
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_other_weights_empty_it():
    recommender = tiny_recommender(encoder=TableEncoder())
    prompts, rows = random_prompts(np.random.default_rng(1), [2, 2], tokens_per_slot=1)
    cache = cache_for(prompts)
    recommender.keep_prefixes(cache)
    before = result(recommender, prompts, rows, [0, 1, 2])[0]
    for change in (
        lambda: recommender.load_group_state("lora", {n: 2 * v for n, v in recommender.group_state("lora").items()}),
        lambda: recommender.lm.get_input_embeddings().weight.mul_(1.5),
        lambda: recommender.to(torch.float64).to(torch.float32),
    ):
        version = weights_version(recommender.lm)
        with torch.no_grad():
            change()
        recommender.keep_prefixes(None)
        expected = result(recommender, prompts, rows, [0, 1, 2])[0]
        recommender.keep_prefixes(cache)
        assert weights_version(recommender.lm) != version
        assert torch.allclose(result(recommender, prompts, rows, [0, 1, 2])[0], expected, atol=1e-4)
        assert not torch.allclose(expected, before, atol=1e-3)


def test_scoring_and_steps_that_train_lora_pass_it_by():
    recommender = tiny_recommender(encoder=TableEncoder())
    prompts, rows = random_prompts(np.random.default_rng(2), [2, 2], tokens_per_slot=1)
    cache = cache_for(prompts)
    recommender.keep_prefixes(cache)
    result(recommender, prompts, rows, [0, 1], groups=("lora",))
    with torch.no_grad():
        recommender(build_batch(prompts, np.arange(4), encoders={"": rows}, share="both"))
    assert cache.n_bytes == 0


def test_the_most_used_are_kept_and_come_in_groups_of_like_length():
    calls = []

    def compute(levels):
        calls.append([level.ids.tolist() for level in levels])
        n = sum(level.ids.numel() for level in levels)
        values = torch.cat([level.ids for level in levels]).float().view(n, 1, 1)
        return ComputedLevels(tuple(levels), {0: (values, -values)})

    prefixes = [np.array(ids) for ids in ([1, 2, 3, 4], [5, 6], [7, 8, 9], [3, 3, 3, 3, 3])]
    cache = PrefixCache(prefixes, np.array([1, 9, 9, 2]), max_bytes=10 * 8, group_tokens=6)
    asked = [torch.tensor(ids) for ids in ([3, 3, 3, 3, 3], [1, 2, 3, 4], [7, 8, 9])]
    for _ in range(2):
        known = cache.known(root_level(asked), compute)
        keys, values = known.keys_values[0]
        assert keys.flatten().tolist() == torch.cat(asked).tolist()
        assert torch.equal(values, -keys)
    # One token tells what a token takes; then the two groups that are asked for, and each time what does not fit.
    assert calls == [[[3]], [[5, 6, 7, 8, 9]], [[3, 3, 3, 3, 3]], [[1, 2, 3, 4]], [[1, 2, 3, 4]]]
    assert cache.n_bytes == 10 * 8
