from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import polars as pl
import pytest
import torch

from collm.component import BuildContext
from collm.contracts.encoder import EncoderBatch, EncoderData
from collm.errors import DataError, PluginError
from collm.testing.encoder_suite import EncoderContract
from collm.testing.fakes import encoder_data
from collm_tokens import register_encoders
from collm_tokens.encoder import TokenTables

ID_TOKENS, SOFT_PROMPT, ATTRIBUTE_TOKENS = register_encoders()


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


def with_genres() -> EncoderData:
    """The invented rows; item 1 is a drama, item 2 a drama and a comedy, the others have no genre."""
    data = encoder_data()
    genres = [None, ["drama"], ["comedy", "drama", "comedy"], *[[] for _ in range(data.n_items - 2)]]
    age = [None, 18, *[44] * (data.n_users - 1)]
    return replace(
        data,
        item_attributes=pl.DataFrame({"genres": pl.Series(genres, dtype=pl.List(pl.String)), "price": 1.5}),
        user_attributes=pl.DataFrame({"age": age}),
    )


class TestAttributeTokens(EncoderContract):
    component = ATTRIBUTE_TOKENS
    settings: ClassVar = {"hidden_size": 8, "item": "genres", "user": "age"}
    own_data = with_genres()


class TestAttributeTokensOfItems(EncoderContract):
    component = ATTRIBUTE_TOKENS
    settings: ClassVar = {"hidden_size": 8, "item": "genres"}
    own_data = with_genres()


def attribute_tokens(tmp_path: Path, **settings: object) -> TokenTables:
    torch.manual_seed(0)
    config = ATTRIBUTE_TOKENS.config(name="attribute-tokens", **settings)
    build = ATTRIBUTE_TOKENS.load_factory()
    return build(config, data=with_genres(), context=BuildContext(cache_dir=tmp_path))


def test_several_values_give_the_mean_of_their_tokens(tmp_path: Path) -> None:
    encoder = attribute_tokens(tmp_path, item="genres", hidden_size=8, n_tokens=2)
    table = encoder.item_tokens  # rows: none, comedy, drama
    assert table.shape == (3, 2, 8)
    pair = encoder.encode(rows([1, 1, 1, 1], [1, 2, 3, 0]))
    torch.testing.assert_close(pair.item[0], table[2])
    torch.testing.assert_close(pair.item[1], (table[1] + table[2]) / 2)
    torch.testing.assert_close(pair.item[2], table[0])
    torch.testing.assert_close(pair.item[3], table[0])
    assert encoder.tokens_per_slot == (0, 2)
    assert pair.user.shape == (4, 0, 8)
    said = encoder.describe()
    assert said.facts == {"item_values": 2}
    n_items = with_genres().n_items
    assert said.notes == (f"{n_items - 2} items have no value of genres; they share one token.",)
    # Values are data, not weights: they are in no file of the run.
    assert set(encoder.state_dict()) == {"user_tokens", "item_tokens"}


def test_ages_are_categories_and_prices_are_not(tmp_path: Path) -> None:
    encoder = attribute_tokens(tmp_path, user="age", hidden_size=8)
    pair = encoder.encode(rows([1, 2, 3], [1, 1, 1]))
    assert torch.equal(pair.user[1], pair.user[2])
    assert not torch.equal(pair.user[0], pair.user[1])
    with pytest.raises(DataError, match=r"attribute-tokens.item: attribute 'price' holds Float64; categories are text"):
        attribute_tokens(tmp_path, item="price")


def test_an_attribute_that_is_not_there_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"no attribute 'genre' of items \(did you mean 'genres'\?\), but genres, price;"
    ):
        attribute_tokens(tmp_path, item="genre")
    with pytest.raises(ValueError, match="name an attribute of users"):
        attribute_tokens(tmp_path)
