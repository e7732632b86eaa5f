from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
import torch

from collm.component import BuildContext
from collm.contracts.encoder import EncoderBatch
from collm.testing.encoder_suite import EncoderContract
from collm.testing.fakes import encoder_batch, encoder_data
from collm_mf import register_encoders

COMPONENTS = {component.name: component for component in register_encoders()}
DATA = encoder_data()


class TestMf(EncoderContract):
    component = COMPONENTS["mf"]
    settings: ClassVar = {"embedding_size": 8}


class TestMfBias(EncoderContract):
    component = COMPONENTS["mf-bias"]
    settings: ClassVar = {"embedding_size": 8, "init_std": 0.5}


def build(name: str, seed: int = 0, **settings):
    torch.manual_seed(seed)
    component = COMPONENTS[name]
    config = component.config.model_validate({"name": name, **settings})
    return component.load_factory()(config, data=DATA, context=BuildContext(cache_dir=Path("no-cache"))), config


def fit(encoder, config, steps: int = 50):
    optimiser = torch.optim.Adam(encoder.parameter_groups(config.fit))
    batch = encoder_batch(DATA)
    for _ in range(steps):
        optimiser.zero_grad()
        loss = encoder.loss(batch)
        loss.backward()
        optimiser.step()
    return loss.item()


@pytest.mark.parametrize("profile", ["reference", "paper"])
def test_profiles_are_the_references_settings(profile):
    values = COMPONENTS["mf"].profiles[profile]
    assert values["embedding_size"] == 256
    assert values["init_std"] == 1.0
    assert (values["fit.learning_rate"], values["fit.weight_decay"], values["fit.batch_size"]) == (1e-3, 1e-4, 2048)


def test_mf_starts_as_standard_normal_with_a_padding_row_of_zeros():
    encoder, _ = build("mf", embedding_size=512)
    table = encoder.item_factors.weight
    assert table.shape == (DATA.n_items + 1, 512)
    assert not table[0].any()
    assert table[1:].std().item() == pytest.approx(1, abs=0.05)


def test_mf_logit_is_the_inner_product_of_its_vectors():
    encoder, _ = build("mf", embedding_size=4)
    batch = encoder_batch(DATA, rows=[0, 5, 9])
    pair = encoder.encode(batch)
    torch.testing.assert_close(encoder.score(batch), torch.einsum("bd,bd->b", pair.user, pair.item))


def test_mf_bias_logit_comes_from_its_vectors():
    encoder, config = build("mf-bias", embedding_size=4)
    fit(encoder, config)
    batch = encoder_batch(DATA, rows=[0, 5, 9])
    pair = encoder.encode(batch)
    match = (pair.user[:, :4] * pair.item[:, :4]).sum(dim=1)
    expected = encoder.global_bias + pair.user[:, 4] + pair.item[:, 4] + match
    torch.testing.assert_close(encoder.score(batch), expected)
    assert encoder.user_dim == encoder.item_dim == 5


def test_mf_bias_unknown_ids_stay_exactly_zero():
    encoder, config = build("mf-bias", embedding_size=4)
    fit(encoder, config)
    pair = encoder.encode(EncoderBatch(user=torch.tensor([0, DATA.n_users]), item=torch.tensor([0, DATA.n_items])))
    assert not pair.user.any()
    assert not pair.item.any()


def test_mf_unknown_ids_move_towards_zero_under_l2():
    encoder, config = build("mf", embedding_size=16)
    before = encoder.user_factors.weight[DATA.n_users].norm().item()
    fit(encoder, config, steps=20)
    assert encoder.user_factors.weight[DATA.n_users].norm().item() < before


def test_mf_bias_weighs_factors_and_biases_differently():
    encoder, config = build("mf-bias", bias_weight_decay=0.25, fit={"weight_decay": 0.5})
    factors, biases, global_bias = encoder.parameter_groups(config.fit)
    assert (factors["weight_decay"], biases["weight_decay"], global_bias["weight_decay"]) == (0.5, 0.25, 0.0)


@pytest.mark.parametrize("name", COMPONENTS)
def test_training_rows_can_be_learnt_by_heart(name):
    encoder, config = build(name, embedding_size=16, init_std=0.1, fit={"learning_rate": 0.05, "weight_decay": 0.0})
    assert fit(encoder, config, steps=200) < 0.05
