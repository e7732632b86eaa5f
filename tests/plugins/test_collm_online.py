"""Encoder `online`: numbers of earlier labels by hand, weights learnt on later rows, vectors of equal halves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from collm.component import BuildContext
from collm.contracts.encoder import EncodedPair, EncoderBatch
from collm.data.slices import part_in_time
from collm.errors import DataError, PluginError
from collm.model.encoder import EncoderModule
from collm.registry import default_registry
from collm.spec.component_config import component_config
from collm.testing.encoder_suite import EncoderContract
from collm.testing.fakes import encoder_batch, encoder_data
from collm_online import register_encoders
from collm_online.encoder import Online, batch_part
from collm_online.scale import Scale

(ONLINE,) = register_encoders()
REGISTRY = default_registry()
MF = {"name": "mf-bias", "embedding_size": 4}


class TestOnline(EncoderContract):
    component = ONLINE
    settings: ClassVar = {"inner": MF}


class TestOnlineOnLightgcn(EncoderContract):
    component = ONLINE
    settings: ClassVar = {"inner": {"name": "lightgcn", "embedding_size": 4}, "half_lives": [2.0]}

    def test_the_past_of_a_row_is_its_history_alone(self) -> None:
        """The inner encoder's graph is of training rows, as LightGCN declares (needs: graph)."""


def made(tmp_path: Path, **settings: Any) -> Online:
    config = component_config(ONLINE, {"inner": MF, **settings}, REGISTRY)
    torch.manual_seed(0)
    context = BuildContext(cache_dir=tmp_path, find=REGISTRY.get)
    return ONLINE.load_factory()(config, data=encoder_data(), context=context)


def with_vectors(tmp_path: Path, **settings: Any) -> Online:
    """On vectors from files, with a score that is fitted directly."""
    data, generator = encoder_data(), np.random.default_rng(0)
    paths = {}
    for side, ids in (("users", data.user_ids), ("items", data.item_ids)):
        np.save(tmp_path / f"{side}.npy", generator.normal(size=(len(ids) - 1, 3)).astype(np.float32))
        (tmp_path / f"{side}.txt").write_text("\n".join(ids[1:]), encoding="utf-8")
        paths |= {side: str(tmp_path / f"{side}.npy"), f"{side[:-1]}_ids": str(tmp_path / f"{side}.txt")}
    return made(tmp_path, inner={"name": "vectors", **paths, "score": "logistic"}, **settings)


def logit(probability: float) -> float:
    return float(np.log(probability / (1 - probability)))


def test_numbers_of_a_row_by_hand(tmp_path: Path) -> None:
    online = made(tmp_path, half_lives=[3.0], user_smoothing=2, item_smoothing=4, recent_smoothing=0.5)
    g = float(online.share)
    batch = EncoderBatch(
        user=torch.tensor([1, 2]),
        item=torch.tensor([1, 2]),
        earlier=torch.tensor([[3.0, 4.0, 1.0, 9.0], [0.0, 0.0, 0.0, 0.0]]),
        recent=torch.tensor([[[[1.5, 2.0]], [[0.5, 2.5]]], [[[0.0, 0.0]], [[0.0, 0.0]]]]),
        days_since=torch.tensor([[0.0, 12.0], [-1.0, -1.0]]),
    )
    user, item = online.features(batch)
    expected_user = [
        logit((3 + 2 * g) / 6) - logit(g),
        logit((1.5 + 0.5 * g) / 2.5) - logit(g),
        np.log(5) / 4,
        np.log(2) / 4,
    ]
    expected_item = [
        logit((1 + 4 * g) / 13) - logit(g),
        logit((0.5 + 0.5 * g) / 3) - logit(g),
        np.log(10) / 4,
        np.log(14) / 4,
    ]
    np.testing.assert_allclose(user[0].numpy(), expected_user, atol=1e-5)
    np.testing.assert_allclose(item[0].numpy(), expected_item, atol=1e-5)
    np.testing.assert_allclose(torch.cat([user[1], item[1]]).numpy(), 0, atol=1e-6)
    weights = torch.linspace(-1, 1, 9)
    online.combined.weights.weight.data.copy_(weights[None])
    online.combined.weights.bias.data.fill_(0.25)
    inputs = torch.cat([online.encoder.score(batch)[:, None], user, item], dim=1)
    torch.testing.assert_close(online.score(batch), inputs @ weights + 0.25)


@pytest.mark.parametrize("value", [0.0, -1.0, 1e17])
def test_a_half_life_without_a_meaning_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="half_lives"):
        ONLINE.config(
            name="online", inner=REGISTRY.get("encoder", "mf-bias").config(name="mf-bias"), half_lives=[value]
        )


def test_the_score_starts_as_that_of_the_inner_encoder(tmp_path: Path) -> None:
    online = made(tmp_path)
    batch = encoder_batch(encoder_data(), half_lives=online.half_lives)
    torch.testing.assert_close(online.score(batch), online.encoder.score(batch))


def test_phases_divide_the_training_rows_in_time(tmp_path: Path) -> None:
    online = made(tmp_path, later_share=0.3)
    config = component_config(ONLINE, {"inner": MF, "later_share": 0.3}, REGISTRY)
    phases = [(phase.name, phase.part) for phase in online.fit_phases(config)]
    assert phases == [("fit", (0.0, 0.7)), ("combine", (0.7, 1.0)), ("fit-again", (0.0, 1.0))]
    once = component_config(ONLINE, {"inner": MF, "refit": False}, REGISTRY)
    assert [(phase.name, phase.select) for phase in online.fit_phases(once)] == [("fit", "auc"), ("combine", "auc")]
    assert [phase.select for phase in online.fit_phases(config)] == ["auc", "loss", "auc"]
    assert [phase.continues for phase in online.fit_phases(config)] == [False, False, True]
    assert [phase.continues for phase in online.fit_phases(once)] == [True, False]


def test_a_second_is_in_one_part_of_time() -> None:
    time = np.array([5, 1, 3, 3, 3, 9, 2, 3, 8, 7])
    early, late = part_in_time(time, (0.0, 0.5)), part_in_time(time, (0.5, 1.0))
    assert (early ^ late).all()
    assert sorted(time[early]) == [1, 2]  # the row at the half has second 3, so all rows of that second are late
    assert part_in_time(time, (0.0, 1.0)).all()
    assert not part_in_time(np.full(4, 7), (0.0, 0.5)).any()


def test_a_direct_fit_solves_the_weights_on_later_rows(tmp_path: Path) -> None:
    online, data = with_vectors(tmp_path, later_share=0.4), encoder_data()
    assert online.fit_mode == "direct"
    rows = encoder_batch(data, half_lives=online.half_lives)
    halves = [
        batch_part(rows, np.arange(len(rows.user)) % 2 == 0),
        batch_part(rows, np.arange(len(rows.user)) % 2 == 1),
    ]
    order = np.concatenate([np.arange(0, len(rows.user), 2), np.arange(1, len(rows.user), 2)])
    train = replace(data.train, **{name: getattr(data.train, name)[order] for name in data.train.__dataclass_fields__})
    online.fit_direct(replace(data, train=train), iter(halves))

    later = part_in_time(data.train.timestamp, (0.6, 1.0))
    inner = with_vectors(tmp_path).encoder
    early = {name: getattr(data.train, name)[~later] for name in data.train.__dataclass_fields__}
    inner.fit_direct(replace(data, train=replace(data.train, **early)), iter([batch_part(rows, ~later)]))
    asked = batch_part(rows, later)
    inputs = torch.cat([inner.score(asked)[:, None], *online.features(asked)], dim=1).detach().numpy()
    model = LogisticRegression(C=100.0, max_iter=1000).fit(inputs, asked.label.numpy())
    found = online.combined.weights
    np.testing.assert_allclose(found.weight[0].detach().numpy(), model.coef_[0], rtol=0.02, atol=0.02)
    np.testing.assert_allclose(found.bias.item(), model.intercept_[0], rtol=0.02, atol=0.02)
    again = with_vectors(tmp_path).encoder
    again.fit_direct(data, iter([rows]))
    torch.testing.assert_close(online.encoder.score(rows), again.score(rows))


def test_a_direct_fit_without_refit_leaves_the_inner_encoder_on_the_earlier_rows(tmp_path: Path) -> None:
    online, data = with_vectors(tmp_path, later_share=0.4, refit=False), encoder_data()
    rows = encoder_batch(data, half_lives=online.half_lives)
    online.fit_direct(data, iter([rows]))
    early = ~part_in_time(data.train.timestamp, (0.6, 1.0))
    train = {name: getattr(data.train, name)[early] for name in data.train.__dataclass_fields__}
    inner = with_vectors(tmp_path).encoder
    inner.fit_direct(replace(data, train=replace(data.train, **train)), iter([batch_part(rows, early)]))
    torch.testing.assert_close(online.encoder.score(rows), inner.score(rows))


def test_the_parts_of_a_vector_have_the_same_variance(tmp_path: Path) -> None:
    online, data = with_vectors(tmp_path), encoder_data()
    rows = encoder_batch(data, half_lives=online.half_lives)
    online.fit_direct(data, iter([rows]))
    asked = batch_part(rows, part_in_time(data.train.timestamp, (0.8, 1.0)))
    with torch.no_grad():
        pair = online.encode(asked)
    weights = online.combined.weights.weight[0, 1:].detach()
    for side, numbers, own in zip(pair_of(pair), online.features(asked), weights.chunk(2), strict=True):
        for part in (side[:, :3], side[:, 3:-1], side[:, -1:]):
            assert part.var(0, correction=0).sum().item() == pytest.approx(1.0, rel=1e-4)
            assert part.mean(0).abs().max().item() < 1e-4
        # The last number is the part of the score that the numbers before it make.
        added = numbers @ own
        torch.testing.assert_close(side[:, -1], (added - added.mean()) / added.std(correction=0), atol=1e-4, rtol=1e-4)


def pair_of(pair: EncodedPair) -> tuple[torch.Tensor, torch.Tensor]:
    return pair.user, pair.item


def test_scales_do_not_depend_on_the_batches() -> None:
    vectors = torch.randn(50, 3) * torch.tensor([1.0, 5.0, 0.1]) + 7
    whole, parts = Scale(3), Scale(3)
    whole.add(vectors)
    for part in vectors.split([1, 20, 29]):
        parts.add(part)
    torch.testing.assert_close(whole(vectors), parts(vectors))
    assert float(whole(vectors).var(0, correction=0).sum()) == pytest.approx(1.0, rel=1e-5)


def test_one_class_in_a_part_is_an_error(tmp_path: Path) -> None:
    online, data = with_vectors(tmp_path), encoder_data()
    rows = encoder_batch(data, half_lives=online.half_lives)
    label = data.train.label.copy()
    label[part_in_time(data.train.timestamp, (0.8, 1.0))] = 1
    with pytest.raises(DataError, match="hold one class only"):
        online.fit_direct(replace(data, train=replace(data.train, label=label)), iter([rows]))


def test_an_inner_encoder_of_several_vectors_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EncoderModule, "tokens_per_slot", (2, 1))
    with pytest.raises(PluginError, match="'mf-bias' gives several vectors per slot"):
        made(tmp_path)


def test_an_inner_encoder_with_half_lives_of_its_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="'online' reads recent labels itself"):
        made(tmp_path, inner={"name": "online", "inner": MF})
