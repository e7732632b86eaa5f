from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest
import torch

from collm.component import BuildContext
from collm.contracts.encoder import EncoderBatch
from collm.errors import DataError
from collm.testing.encoder_suite import EncoderContract
from collm.testing.fakes import encoder_batch, encoder_data
from collm_din import register_encoders
from collm_din.encoder import DIN, build
from collm_din.layers import AttentionPooling, Dice

COMPONENT = register_encoders()[0]
SMALL = {"embedding_size": 8, "attention_layers": [6, 4], "layers": [12, 6]}


class TestDIN(EncoderContract):
    component = COMPONENT
    settings = SMALL


class TestDINReference(EncoderContract):
    component = COMPONENT
    settings: ClassVar = {**SMALL, "biases": False, "norm_padding": True}


class TestDINWithoutTarget(EncoderContract):
    component = COMPONENT
    settings: ClassVar = {**SMALL, "target_aware": False}


def make(tmp_path, **settings) -> DIN:
    torch.manual_seed(0)
    config = COMPONENT.config(name="din", **{**SMALL, **settings})
    return build(config, data=encoder_data(), context=BuildContext(cache_dir=tmp_path))


def test_dice_follows_its_formula_in_both_modes() -> None:
    torch.manual_seed(0)
    dice, x = Dice(3), torch.randn(50, 3) * 2 + 1
    with torch.no_grad():
        dice.alpha.copy_(torch.tensor([0.1, 0.2, 0.3]))
    gate = torch.sigmoid((x - x.mean(dim=0)) / (x.var(dim=0, unbiased=False) + 1e-8).sqrt())
    assert torch.allclose(dice.train()(x), gate * x + (1 - gate) * dice.alpha * x, atol=1e-5)
    norm = dice.norm
    gate = torch.sigmoid((x - norm.running_mean) / (norm.running_var + 1e-8).sqrt())
    assert torch.allclose(dice.eval()(x), gate * x + (1 - gate) * dice.alpha * x, atol=1e-5)


def test_dice_trains_on_a_single_row_and_keeps_its_statistics() -> None:
    dice = Dice(3).train()
    before = dice.norm.running_mean.clone()
    assert torch.isfinite(dice(torch.randn(1, 3))).all()
    assert torch.equal(dice.norm.running_mean, before)


def test_pooling_is_the_weighted_sum_of_the_real_items() -> None:
    torch.manual_seed(0)
    pooling = AttentionPooling(4, widths=[5, 3]).eval()
    target, items = torch.randn(3, 4), torch.randn(3, 6, 4)
    real = torch.tensor([[0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]], dtype=torch.bool)
    expected = torch.zeros(3, 4)
    for row, place in real.nonzero().tolist():
        item, wanted = items[row, place], target[row]
        pair = torch.cat([wanted, item, wanted - item, wanted * item])[None]
        expected[row] += pooling.weight(pooling.network(pair))[0] * item
    assert torch.allclose(pooling(target, items, real), expected, atol=1e-5)


def test_padding_enters_the_norms_only_where_asked_and_never_the_sum() -> None:
    torch.manual_seed(0)
    kept, normed = AttentionPooling(4, widths=[5, 3]), AttentionPooling(4, widths=[5, 3], norm_padding=True)
    normed.load_state_dict(kept.state_dict())
    target, items = torch.randn(3, 4), torch.randn(3, 2, 4)
    real = torch.tensor([[0, 1], [0, 0], [1, 1]], dtype=torch.bool)
    items = items * real.unsqueeze(-1)
    assert torch.equal(kept.eval()(target, items, real), normed.eval()(target, items, real))
    assert not torch.allclose(kept.train()(target, items, real), normed.train()(target, items, real))
    pair = torch.cat(
        [target[:, None].expand_as(items), items, target[:, None] - items, target[:, None] * items], dim=-1
    )
    weight = normed.weight(normed.network(pair.flatten(0, 1))).unflatten(0, (3, 2))
    expected = (weight * items).sum(dim=1)
    assert torch.allclose(normed(target, items, real), expected, atol=1e-5)


@pytest.mark.parametrize("target_aware", [True, False])
def test_a_row_without_history_pools_to_zero_and_trains(tmp_path, target_aware: bool) -> None:
    encoder = make(tmp_path, target_aware=target_aware).train()
    ids = torch.tensor([1, 2])
    batch = EncoderBatch(
        user=ids, item=ids, label=torch.tensor([1.0, 0.0]), history=torch.zeros(2, 3, dtype=torch.int64)
    )
    assert encoder.pooled_history(encoder.item_embedding(ids), batch.history).abs().sum().item() == 0
    encoder.loss(batch).backward()
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters() if p.grad is not None)


def test_target_aware_vectors_are_those_of_the_reference(tmp_path) -> None:
    encoder, batch = make(tmp_path, biases=False).eval(), encoder_batch(encoder_data(), history_items=5)
    pair, target = encoder.encode(batch), encoder.item_embedding(batch.item)
    assert encoder.user_dim == encoder.item_dim == 24 and encoder.user_depends_on_item
    assert torch.equal(pair.user[:, :8], target) and torch.equal(pair.user[:, 16:], encoder.user_embedding(batch.user))
    assert torch.equal(pair.item, torch.cat([target] * 3, dim=1))


def test_without_the_target_the_user_vector_is_the_mean_of_the_history_and_the_user(tmp_path) -> None:
    encoder = make(tmp_path, biases=False, target_aware=False).eval()
    history = torch.tensor([[0, 3, 4]])
    batch = EncoderBatch(user=torch.tensor([1]), item=torch.tensor([2]), history=history)
    pair = encoder.encode(batch)
    assert not encoder.user_depends_on_item and encoder.user_dim == encoder.item_dim == 16
    assert torch.allclose(pair.user[0, :8], encoder.history_embedding.weight[[3, 4]].mean(dim=0))
    assert torch.equal(pair.user, encoder.encode(replace(batch, item=torch.tensor([5]))).user)


def test_only_the_latest_items_are_read(tmp_path) -> None:
    encoder = make(tmp_path, max_length=2).eval()
    ids = torch.tensor([1, 1])
    scores = encoder.score(EncoderBatch(user=ids, item=ids, history=torch.tensor([[7, 3, 4], [8, 3, 4]])))
    assert encoder.history_items == 2 and torch.equal(scores[0], scores[1])


def test_a_batch_without_history_is_refused(tmp_path) -> None:
    with pytest.raises(DataError, match="carries no history"):
        make(tmp_path).score(EncoderBatch(user=torch.tensor([1]), item=torch.tensor([1])))
