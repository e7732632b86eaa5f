from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from model_fakes import random_prompts

from collm.contracts.encoder import EncoderBatch
from collm.errors import RunError
from collm.model.prefix.batch import build_batch


def test_rows_are_padded_on_the_right_in_the_order_asked_for():
    prompts, _ = random_prompts(np.random.default_rng(0), [2, 2], tokens_per_slot=1)
    order = np.array([3, 0])
    batch = build_batch(prompts, order)
    for position, row in enumerate(order):
        length = int(batch.lengths[position])
        assert batch.ids[position, :length].tolist() == prompts.prompt(row).tolist()
    assert batch.ids.shape == (2, int(batch.lengths.max()))
    assert batch.row_index.tolist() == [3, 0]
    assert batch.slots["user"].at.tolist() == [
        prompts.slots["user"][3, 0],
        batch.ids.shape[1] + prompts.slots["user"][0, 0],
    ]
    assert len(batch) == 2 and batch.n_tokens == batch.ids.numel()


def rebuilt(batch):
    """Every row's tokens, positions and slot sources, read back from the tree."""
    result = []
    for row in range(len(batch)):
        node, pieces, slots = row, [], []
        for level in reversed(batch.tree):
            offset = int(level.lengths[:node].sum())
            span = slice(offset, offset + int(level.lengths[node]))
            pieces.insert(0, level.ids[span].tolist())
            start = int(level.starts[node])
            for at, source in zip(level.slots["user"].at.tolist(), level.slots["user"].source.tolist(), strict=True):
                if span.start <= at < span.stop:
                    slots.append((start + at - span.start, source))
            node = int(level.parent[node])
        result.append(([token for piece in pieces for token in piece], slots))
    return result


@pytest.mark.parametrize("share", ["before-user", "through-user", "both"])
def test_a_tree_holds_every_prompt_whole(share):
    prompts, rows = random_prompts(np.random.default_rng(1), [4, 1, 3], tokens_per_slot=1)
    batch = build_batch(prompts, np.arange(8), encoders={"": rows}, share=share)
    for row, (tokens, slots) in enumerate(rebuilt(batch)):
        assert tokens == prompts.prompt(row).tolist()
        assert [position for position, _ in slots] == prompts.slots["user"][row].tolist()
        assert rows.user[slots[0][1]] == rows.user[row]
    assert batch.n_tokens < int(batch.lengths.sum())


def test_equal_tokens_of_different_users_share_the_history_alone():
    prompts, rows = random_prompts(np.random.default_rng(2), [2], tokens_per_slot=1)
    other = EncoderBatch(user=torch.tensor([1, 2]), item=rows.item, history=rows.history)
    batch = build_batch(prompts, np.arange(2), encoders={"": other}, share="both")
    assert [len(level.lengths) for level in batch.tree] == [1, 2, 2]
    longer = EncoderBatch(user=rows.user, item=rows.item, history=torch.tensor([[1, 2, 3], [4, 2, 3]]))
    batch = build_batch(prompts, np.arange(2), encoders={"": longer}, share="through-user")
    # What precedes the user slot is the words common to all prompts here; the rest of the shared part differs.
    assert [len(level.lengths) for level in batch.tree] == [1, 2, 2]


def test_empty_levels_are_left_out():
    prompts, rows = random_prompts(np.random.default_rng(3), [3], tokens_per_slot=1, empty_history=True)
    prompts = dataclasses.replace(prompts, before_user=np.zeros(3, dtype=np.int32))
    batch = build_batch(prompts, np.arange(3), encoders={"": rows}, share="both")
    assert len(batch.tree) == 2
    assert [tokens for tokens, _ in rebuilt(batch)] == [prompts.prompt(row).tolist() for row in range(3)]


def test_sharing_that_would_mix_rows_is_refused():
    prompts, _ = random_prompts(np.random.default_rng(4), [2], tokens_per_slot=1)
    with pytest.raises(RunError, match="slot item lies before"):
        build_batch(
            dataclasses.replace(prompts, slots={"item": prompts.slots["user"]}), np.arange(2), share="through-user"
        )
    with pytest.raises(RunError, match="slot user lies before the end of the part before all slots"):
        build_batch(dataclasses.replace(prompts, before_user=prompts.shared), np.arange(2), share="both")
    with pytest.raises(RunError, match="at least one row"):
        build_batch(prompts, np.array([], dtype=np.int64))
