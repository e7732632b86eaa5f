"""Operations needed: against torch's own counter on linear layers, and distinct tokens against a count by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from bench_types import OpenSubject
from torch.utils.flop_counter import FlopCounterMode

from collm.bench.flops import ModelSize, Tokens, count_tokens, model_size, needed_flops
from collm.model.parameters import lora_parameters
from collm.model.prefix.levels import WORTH_A_LEVEL

N_TOKENS = 40
LINEAR = (torch.ops.aten.mm, torch.ops.aten.addmm)


def linear_flops(lm: Any, *, backward: bool, from_input: bool = False) -> int:
    """What torch counts in the linear layers of the decoder; attention is written without matrix products there."""
    embedded = lm.get_input_embeddings()(torch.arange(N_TOKENS)[None] + 5).detach().requires_grad_(from_input)
    with FlopCounterMode(display=False) as counter:
        states = lm.base_model(inputs_embeds=embedded, use_cache=False).last_hidden_state
        if backward:
            states.sum().backward()
    counts = counter.get_flop_counts()["Global"]
    return sum(counts.get(operation, 0) for operation in LINEAR)


def norms(lm: Any) -> int:
    return sum(parameter.numel() for name, parameter in lm.named_parameters() if "norm" in name)


def layer_zero(lm: Any, *endings: str) -> int:
    found = [p.numel() for n, p in lm.named_parameters() if "layers.0.self_attn" in n and n.endswith(endings)]
    assert len(found) == len(endings)
    return sum(found)


def test_forward(open_tiny: OpenSubject) -> None:
    lm = open_tiny().recommender.lm
    size = model_size(lm)
    counted = linear_flops(lm, backward=False)
    assert counted == 2 * N_TOKENS * (size.decoder - norms(lm) + size.lora)
    assert 0 < needed_flops(size, Tokens(N_TOKENS), lora_trains=False) / counted - 1 < 0.01


def test_backward_through_frozen_weights(open_tiny: OpenSubject) -> None:
    subject = open_tiny()
    subject.recommender.set_trainable(())
    lm = subject.recommender.lm
    size = model_size(lm)
    counted = linear_flops(lm, backward=True, from_input=True)
    assert counted == 4 * N_TOKENS * (size.decoder - norms(lm) + size.lora)
    needed = needed_flops(size, Tokens(N_TOKENS, N_TOKENS), lora_trains=False)
    assert needed == counted + 4 * N_TOKENS * norms(lm)


def test_backward_of_adapters(open_tiny: OpenSubject) -> None:
    subject = open_tiny()
    subject.recommender.set_trainable(("lora",))
    lm = subject.recommender.lm
    size = model_size(lm)
    counted = linear_flops(lm, backward=True)
    # No gradient reaches the frozen embeddings, so the first layer's projections see none at their inputs. The rule
    # counts them all the same.
    names = ("q_proj.base_layer.weight", "k_proj.weight", "v_proj.base_layer.weight")
    downs = ("q_proj.lora_A.default.weight", "v_proj.lora_A.default.weight")
    omitted = 2 * N_TOKENS * layer_zero(lm, *names, *downs)
    needed = needed_flops(size, Tokens(N_TOKENS, N_TOKENS), lora_trains=True)
    assert needed == counted + omitted + 4 * N_TOKENS * norms(lm)


def test_tables_are_no_part_of_the_decoder(open_tiny: OpenSubject) -> None:
    subject = open_tiny()
    size = model_size(subject.recommender.lm)
    assert size.decoder == subject.setup.backbone.describe()["non_embedding_parameters"]
    assert size.lora == sum(p.numel() for p in lora_parameters(subject.recommender.lm).values())


def test_distinct_tokens(open_tiny: OpenSubject) -> None:
    subject = open_tiny()
    view, requests = subject.requests(2, 5, history_items=10)
    rows = requests[0].take(np.array([0, 1, 2]))
    other = requests[1].take(np.array([3, 4]))
    both = type(rows)(*(np.concatenate([getattr(rows, n), getattr(other, n)]) for n in rows.__dataclass_fields__))
    prompts = subject.source("hybrid", data=view).encode(both)
    encoded = prompts.prompts
    first, second = encoded.prompt(0), encoded.prompt(3)
    common = int(np.argmin(np.equal(first[: len(second)], second[: len(first)])))
    assert WORTH_A_LEVEL <= common <= encoded.before_user[0]
    own = int((encoded.lengths - encoded.shared).sum())
    expected = int(encoded.shared[0] + encoded.shared[3]) - common + own
    everything = count_tokens(prompts, np.arange(5), trains=False, lora_trains=False)
    assert everything == Tokens(expected, 0)
    step = count_tokens(prompts, np.arange(5), trains=True, lora_trains=True)
    assert step == Tokens(expected, expected)
    mapping = count_tokens(prompts, np.arange(5), trains=True, lora_trains=False)
    after_slot = [int(encoded.shared[row] - encoded.before_user[row]) for row in (0, 3)]
    assert mapping == Tokens(expected, own + sum(after_slot))


def test_sum_of_tokens_and_untouched_adapters() -> None:
    assert Tokens(3, 1) + Tokens(4, 2) == Tokens(7, 3)
    assert needed_flops(ModelSize(decoder=10, lora=1), Tokens(2, 1), lora_trains=False) == 2 * 11 * 2 + 2 * 11
    assert needed_flops(ModelSize(decoder=10, lora=1), Tokens(2, 1), lora_trains=True) == 2 * 11 * 2 + 2 * 11 + 2
