"""Only the tokens whose state is read go through the last feed-forward part and the final norm."""

from __future__ import annotations

import pytest
import torch
from model_fakes import HIDDEN, VOCABULARY, tiny_lm

from collm.model.answer_head import run_for_positions

IDS = torch.arange(24).view(2, 12) % VOCABULARY
LAST = torch.tensor([5, 11, 23])


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_states_and_gradients_equal_those_of_all_positions(architecture):
    decoder = tiny_lm(architecture).model
    embedded = torch.randn(2, 12, HIDDEN, requires_grad=True)

    def run():
        return decoder(inputs_embeds=embedded).last_hidden_state

    expected = run().reshape(-1, HIDDEN)[LAST]
    found = run_for_positions(decoder, LAST, run)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < 1e-5
    wanted = torch.autograd.grad(expected.square().sum(), embedded)[0]
    assert (torch.autograd.grad(found.square().sum(), embedded)[0] - wanted).abs().max() < 1e-4


def test_fewer_rows_reach_the_last_feed_forward_part_and_hooks_are_taken_off():
    decoder = tiny_lm().model
    seen = []
    handle = decoder.layers[-1].mlp.gate_proj.register_forward_hook(lambda _m, args, _o: seen.append(args[0].shape))
    with torch.no_grad():
        run_for_positions(decoder, LAST, lambda: decoder(IDS).last_hidden_state)
        decoder(IDS)
    handle.remove()
    assert [shape.numel() // HIDDEN for shape in seen] == [3, 24]


def test_hooks_are_taken_off_after_a_failure():
    decoder = tiny_lm().model

    def fail():
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        run_for_positions(decoder, LAST, fail)
    assert decoder(IDS).last_hidden_state.shape == (2, 12, HIDDEN)


def test_a_decoder_of_another_build_keeps_all_positions():
    class Other(torch.nn.Module):
        def forward(self, x):
            return x * 2

    x = torch.randn(2, 12, HIDDEN)
    assert torch.equal(run_for_positions(Other(), LAST, lambda: x * 2), (x * 2).reshape(-1, HIDDEN)[LAST])
