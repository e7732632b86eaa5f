from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from collm.component import BuildContext
from collm.contracts.encoder import EncoderBatch
from collm.errors import DataError
from collm.testing.encoder_suite import EncoderContract
from collm.testing.fakes import encoder_batch, encoder_data
from collm_sasrec import encoder as sasrec
from collm_sasrec import register_encoders
from collm_sasrec.blocks import Block, attention_mask

COMPONENT = register_encoders()[0]
SMALL = {"embedding_size": 8, "max_length": 6}


class TestSASRec(EncoderContract):
    component = COMPONENT
    settings = SMALL


class TestSASRecReference(EncoderContract):
    component = COMPONENT
    settings: ClassVar = {**SMALL, "biases": False, "attend_padding": True, "n_heads": 2, "n_blocks": 2}


class TestSASRecNextItem(EncoderContract):
    component = COMPONENT
    settings: ClassVar = {**SMALL, "objective": "next-item", "dropout": 0.0}


def make(tmp_path, **settings) -> sasrec.SASRec:
    torch.manual_seed(0)
    config = COMPONENT.config(name="sasrec", **{**SMALL, **settings})
    return sasrec.build(config, data=encoder_data(), context=BuildContext(cache_dir=tmp_path))


def rows(history, user=None, item=None) -> EncoderBatch:
    history = torch.tensor(history)
    ones = torch.ones(len(history), dtype=torch.int64)
    return EncoderBatch(user=ones if user is None else user, item=ones if item is None else item, history=history)


def test_the_default_length_is_the_mean_number_of_rows_per_training_user(tmp_path) -> None:
    data = encoder_data()
    encoder = make(tmp_path, max_length=None)
    assert encoder.history_items == round(data.train.user.size / len(np.unique(data.train.user)))


def test_heads_must_divide_the_embedding() -> None:
    with pytest.raises(ValidationError, match="n_heads must divide embedding_size 8, got n_heads=3"):
        COMPONENT.config(name="sasrec", embedding_size=8, n_heads=3)


def test_a_position_sees_itself_and_the_real_ones_before() -> None:
    real = torch.tensor([[False, True, True]])
    mask = attention_mask(real, attend_padding=False)[0, 0]
    assert mask.tolist() == [[True, False, False], [False, True, False], [False, True, True]]
    assert attention_mask(real, attend_padding=True)[0, 0].tolist() == np.tril(np.ones((3, 3), dtype=bool)).tolist()


def test_a_block_equals_torchs_own_attention() -> None:
    torch.manual_seed(0)
    block = Block(8, n_heads=2, dropout=0.0)
    own = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        own.in_proj_weight.copy_(torch.cat([block.query.weight, block.key_value.weight]))
        own.in_proj_bias.copy_(torch.cat([block.query.bias, block.key_value.bias]))
        own.out_proj.load_state_dict(block.out.state_dict())
    states, mask = torch.randn(3, 5, 8), attention_mask(torch.ones(3, 5, dtype=torch.bool), attend_padding=True)
    queries = block.query_norm(states)
    mixed, _ = own(queries, states, states, attn_mask=~mask[0, 0])
    hidden = block.norm(queries + mixed)
    expected = hidden + block.network(hidden)
    assert torch.allclose(block(states, mask, n_queries=5), expected, atol=1e-5)
    assert torch.allclose(block(states, mask, n_queries=1), expected[:, -1:], atol=1e-5)


@pytest.mark.parametrize("attend_padding", [True, False])
def test_the_result_does_not_depend_on_the_batchs_padding(tmp_path, attend_padding: bool) -> None:
    encoder = make(tmp_path, attend_padding=attend_padding).eval()
    short, long = rows([[3, 4]]), rows([[0, 0, 0, 0, 0, 0, 0, 3, 4]])
    assert torch.allclose(encoder.score(short), encoder.score(long), atol=1e-6)


def test_order_matters_and_items_beyond_the_length_do_not(tmp_path) -> None:
    encoder = make(tmp_path, max_length=3).eval()
    state = encoder.state(torch.tensor([[9, 3, 4, 5], [8, 3, 4, 5], [9, 4, 3, 5]]))
    assert torch.allclose(state[0], state[1]) and not torch.allclose(state[0], state[2])


def test_an_empty_history_is_finite_in_value_and_gradient(tmp_path) -> None:
    encoder = make(tmp_path).train()
    batch = replace(rows([[0, 0], [0, 3]]), label=torch.tensor([1.0, 0.0]))
    encoder.loss(batch).backward()
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters() if p.grad is not None)
    assert torch.isfinite(encoder.eval().score(replace(batch, history=batch.history[:, :0]))).all()


def test_sorting_rows_by_length_changes_nothing(tmp_path, monkeypatch) -> None:
    encoder = make(tmp_path, n_blocks=2).eval()
    history = encoder_batch(encoder_data(), history_items=6).history
    plain = encoder.state(history)
    monkeypatch.setattr(sasrec, "MIN_ROWS_TO_SORT", 1)
    assert torch.allclose(encoder.state(history), plain, atol=1e-5)


def test_next_item_leaves_rows_with_label_zero_out(tmp_path) -> None:
    encoder = make(tmp_path, objective="next-item", dropout=0.0)
    batch = encoder_batch(encoder_data(), history_items=6)
    kept = batch.label > 0
    only = EncoderBatch(batch.user[kept], batch.item[kept], batch.label[kept], batch.history[kept])
    torch.manual_seed(1)
    whole = encoder.loss(batch)
    torch.manual_seed(1)
    assert torch.allclose(whole, encoder.loss(only))
    assert encoder.loss(replace(batch, label=torch.zeros_like(batch.label))).item() == 0


def test_vectors_are_the_state_and_the_input_table(tmp_path) -> None:
    encoder = make(tmp_path, biases=False).eval()
    batch = encoder_batch(encoder_data(), history_items=6)
    pair = encoder.encode(batch)
    assert torch.equal(pair.item, encoder.item_embedding(batch.item))
    assert torch.allclose((pair.user * pair.item).sum(dim=1), encoder.score(batch), atol=1e-5)


def test_a_batch_without_history_is_refused(tmp_path) -> None:
    with pytest.raises(DataError, match="carries no history"):
        make(tmp_path).score(EncoderBatch(user=torch.tensor([1]), item=torch.tensor([1])))
