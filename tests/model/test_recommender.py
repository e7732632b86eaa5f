from __future__ import annotations

import numpy as np
import pytest
import torch
from model_fakes import ANSWER, HIDDEN, TableEncoder, TokenEncoder, random_prompts, tiny_lm, tiny_recommender

from collm.errors import RunError
from collm.model.mapping import Projector
from collm.model.prefix.batch import build_batch
from collm.model.recommender import Recommender

ALL_SHARES = ("none", "before-user", "through-user", "both")


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
@pytest.mark.parametrize("readout", ["yes_logit", "yes_minus_no"])
def test_logit_is_that_of_the_language_model_row_by_row(architecture, readout):
    lm = tiny_lm(architecture)
    prompts, _ = random_prompts(np.random.default_rng(0), [3, 1, 2])
    expected = []
    for row in range(len(prompts)):
        logits = lm(input_ids=torch.from_numpy(prompts.prompt(row).astype(np.int64))[None]).logits[0, -1]
        expected.append(logits[3] if readout == "yes_logit" else logits[3] - logits[4])
    recommender = Recommender(lm, answer=ANSWER, readout=readout)
    for share in ALL_SHARES:
        scores = recommender(build_batch(prompts, np.arange(6), share=share))
        assert scores.dtype == torch.float32
        torch.testing.assert_close(scores, torch.stack(expected), rtol=1e-5, atol=1e-5)


def test_slots_hold_the_mapped_vectors_and_no_token_is_searched():
    recommender = tiny_recommender(encoder=TableEncoder())
    prompts, rows = random_prompts(np.random.default_rng(1), [2, 2], tokens_per_slot=1)
    scores = recommender(build_batch(prompts, np.arange(4), encoders={"": rows}))
    pair = recommender.encoders[""].encode(rows)
    user, item = (recommender.projectors[""](side, getattr(pair, side)) for side in ("user", "item"))
    for row in range(4):
        embedded = recommender.lm.get_input_embeddings()(torch.from_numpy(prompts.prompt(row).astype(np.int64)))
        embedded = embedded.detach().clone()
        embedded[prompts.slots["user"][row, 0]], embedded[prompts.slots["item"][row, 0]] = user[row, 0], item[row, 0]
        logits = recommender.lm(inputs_embeds=embedded[None]).logits[0, -1]
        assert scores[row].item() == pytest.approx((logits[3] - logits[4]).item(), abs=1e-5)


def test_tokens_of_the_encoder_bypass_the_mapping():
    recommender = tiny_recommender(encoder=TokenEncoder())
    prompts, rows = random_prompts(np.random.default_rng(2), [2, 1], tokens_per_slot=2)
    scores = recommender(build_batch(prompts, np.arange(3), encoders={"": rows}, share="through-user"))
    pair = recommender.encoders[""].encode(rows)
    embedded = (
        recommender.lm.get_input_embeddings()(torch.from_numpy(prompts.prompt(2).astype(np.int64))).detach().clone()
    )
    embedded[prompts.slots["user"][2]], embedded[prompts.slots["item"][2]] = pair.user[2], pair.item[2]
    logits = recommender.lm(inputs_embeds=embedded[None]).logits[0, -1]
    assert scores[2].item() == pytest.approx((logits[3] - logits[4]).item(), abs=1e-5)


@pytest.mark.parametrize("share", ALL_SHARES)
def test_a_row_does_not_see_the_other_rows(share):
    recommender = tiny_recommender(encoder=TableEncoder())
    prompts, rows = random_prompts(np.random.default_rng(3), [4, 3, 2], tokens_per_slot=1)

    def scores(chosen):
        part = type(rows)(user=rows.user[chosen], item=rows.item[chosen], history=rows.history[chosen])
        return recommender(build_batch(prompts, np.array(chosen), encoders={"": part}, share=share))

    together = scores(list(range(9)))
    for chosen in ([0], [8, 1], [5, 4, 3]):
        torch.testing.assert_close(scores(chosen), together[chosen], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("share", ALL_SHARES)
def test_in_bfloat16_a_row_moves_with_the_others_by_rounding_alone(share):
    # The shape of a batch decides how sums are rounded, on some machines more than on others: 0.03 at most where scores
    # spread by 1.5 and bfloat16 itself moves them by 0.06 (SmolLM2-135M: docs/speed.md).
    recommender = tiny_recommender(encoder=TableEncoder())
    prompts, rows = random_prompts(np.random.default_rng(7), [4, 3, 2, 5], tokens_per_slot=1)

    def scores(chosen):
        part = type(rows)(user=rows.user[chosen], item=rows.item[chosen], history=rows.history[chosen])
        return recommender(build_batch(prompts, np.array(chosen), encoders={"": part}, share=share)).detach()

    everything = list(range(14))
    exact = scores(everything)
    recommender.lm.to(torch.bfloat16)
    together = scores(everything)
    assert exact.std() > 1
    assert (together - exact).abs().max() < 0.1
    for chosen in ([0], [8, 1], [5, 4, 3], [13, 0, 7, 9, 11]):
        assert (scores(chosen) - together[chosen]).abs().max() < 0.03


def test_bfloat16_weights_give_float32_logits_close_to_float32():
    prompts, _ = random_prompts(np.random.default_rng(4), [3, 3])
    batches = [build_batch(prompts, np.arange(6), share=share) for share in ALL_SHARES]
    exact = Recommender(tiny_lm(), answer=ANSWER, readout="yes_minus_no")(batches[0])
    rounded = Recommender(tiny_lm().to(torch.bfloat16), answer=ANSWER, readout="yes_minus_no")
    for batch in batches:
        scores = rounded(batch)
        assert scores.dtype == torch.float32
        torch.testing.assert_close(scores, exact, rtol=0, atol=0.02)


def test_overfits_eight_rows_through_each_group():
    prompts, rows = random_prompts(np.random.default_rng(5), [1] * 8, tokens_per_slot=1)
    label = torch.tensor([0.0, 1.0] * 4)
    batch = build_batch(prompts, np.arange(8), encoders={"": rows}, label=label, share="both")
    losses = {}
    for group in ("lora", "projector", "encoder"):
        recommender = tiny_recommender(encoder=TableEncoder())
        recommender.set_trainable((group,))
        before = {name: value.clone() for name, value in recommender.state_dict().items()}
        optimiser = torch.optim.AdamW(recommender.parameter_groups()[group].values(), lr=0.02)
        for _ in range(100):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(recommender(batch), label)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        losses[group] = loss.item()
        moved = {name for name, value in recommender.state_dict().items() if not torch.equal(before[name], value)}
        prefix = {"lora": "lm.", "projector": "_projectors.", "encoder": "_encoders."}[group]
        assert moved and all(name.startswith(prefix) and (group != "lora" or "lora_" in name) for name in moved)
    assert max(losses.values()) < 0.35, losses


def test_calibration_scales_the_mapping_to_the_token_embeddings():
    encoder = TableEncoder()
    recommender = Recommender(
        tiny_lm(),
        answer=ANSWER,
        readout="yes_logit",
        encoders={"": encoder},
        projectors={"": Projector({"user": 6, "item": 6}, HIDDEN)},
    )
    _, rows = random_prompts(np.random.default_rng(6), [20, 20])
    recommender.calibrate_projector([{"": rows}])
    pair = encoder.encode(rows)
    outputs = torch.cat([recommender.projectors[""](side, getattr(pair, side)) for side in ("user", "item")])
    weight = recommender.lm.get_input_embeddings().weight
    assert outputs.square().mean().sqrt().item() == pytest.approx(weight.square().mean().sqrt().item(), rel=1e-4)
    with pytest.raises(RunError, match="no training row"):
        recommender.calibrate_projector([])


def test_slots_without_vectors_are_refused():
    prompts, rows = random_prompts(np.random.default_rng(7), [2], tokens_per_slot=1)
    with pytest.raises(RunError, match="no encoder to fill them"):
        tiny_recommender()(build_batch(prompts, np.arange(2), encoders={"": rows}))
    recommender = tiny_recommender(encoder=TokenEncoder())
    with pytest.raises(RunError, match="1 tokens per user slot, the vectors 2"):
        recommender(build_batch(prompts, np.arange(2), encoders={"": rows}))
