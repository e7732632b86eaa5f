from __future__ import annotations

from typing import ClassVar

import pytest
import torch

from collm.component import BuildContext
from collm.contracts.encoder import EncoderBatch
from collm.errors import PluginError
from collm.testing.encoder_suite import EncoderContract
from collm.testing.fakes import encoder_data
from collm_tokens import register_encoders
from collm_tokens.encoder import TokenTables

ID_TOKENS, SOFT_PROMPT = register_encoders()


class TestIdTokens(EncoderContract):
    component = ID_TOKENS
    settings: ClassVar = {"hidden_size": 8, "n_tokens": 2}


class TestSoftPrompt(EncoderContract):
    component = SOFT_PROMPT
    settings: ClassVar = {"hidden_size": 8}


def build(component, tmp_path, **settings) -> TokenTables:
    torch.manual_seed(0)
    config = component.config(name=component.name, **settings)
    return component.load_factory()(config, data=encoder_data(), context=BuildContext(cache_dir=tmp_path))


def rows(user, item) -> EncoderBatch:
    return EncoderBatch(user=torch.tensor(user), item=torch.tensor(item))


@pytest.mark.parametrize("component", [ID_TOKENS, SOFT_PROMPT])
def test_before_a_backbone_is_bound_the_error_says_what_to_do(component, tmp_path) -> None:
    with pytest.raises(PluginError, match="bind_backbone"):
        build(component, tmp_path).encode(rows([1], [1]))


@pytest.mark.parametrize("component", [ID_TOKENS, SOFT_PROMPT])
def test_binding_sizes_the_tokens_and_gives_them_the_backbones_scale(component, tmp_path) -> None:
    encoder = build(component, tmp_path, n_tokens=3)
    encoder.bind_backbone(512, 0.05)
    pair = encoder.encode(rows([1, 2], [3, 4]))
    assert pair.user.shape == pair.item.shape == (2, 3, 512)
    assert encoder.tokens_per_slot == (3, 3)
    assert pair.user.square().mean().sqrt().item() == pytest.approx(0.05, rel=0.1)
    assert len(list(encoder.parameters())) == 2


def test_a_width_that_is_not_the_backbones_is_refused(tmp_path) -> None:
    with pytest.raises(PluginError, match="hidden_size is 8, but the backbone's token embeddings are 16 wide"):
        build(ID_TOKENS, tmp_path, hidden_size=8).bind_backbone(16, 0.02)


def test_id_tokens_differ_by_id_and_the_soft_prompt_does_not(tmp_path) -> None:
    own, shared = build(ID_TOKENS, tmp_path, hidden_size=4), build(SOFT_PROMPT, tmp_path, hidden_size=4)
    batch = rows([1, 2, 1], [3, 3, 4])
    pair = own.encode(batch)
    assert torch.equal(pair.user[0], pair.user[2]) and not torch.equal(pair.user[0], pair.user[1])
    assert torch.equal(pair.item[0], pair.item[1]) and not torch.equal(pair.item[0], pair.item[2])
    pair = shared.encode(batch)
    assert torch.equal(pair.user[0], pair.user[1]) and not torch.equal(pair.user[0], pair.item[0])


def test_a_bound_state_loads_strictly_into_another_bound_one(tmp_path) -> None:
    first, second = build(ID_TOKENS, tmp_path), build(ID_TOKENS, tmp_path)
    first.bind_backbone(4, 0.1)
    second.bind_backbone(4, 0.1)
    second.load_state_dict(first.state_dict(), strict=True)
    batch = rows([1], [2])
    assert torch.equal(first.encode(batch).user, second.encode(batch).user)
