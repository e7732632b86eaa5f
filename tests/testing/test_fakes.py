from __future__ import annotations

import numpy as np
import pytest
import torch

from collm.testing.fakes import FakeTokenizer, encoder_batch, encoder_data, interaction_table, tiny_language_model


def test_table_is_seeded_and_dense():
    table = interaction_table(5, 7, rows_per_user=10)
    assert table.frame.equals(interaction_table(5, 7, rows_per_user=10).frame)
    assert table.frame["item"].max() <= 7
    assert table.frame["split"].unique().sort().to_list() == ["test", "train", "valid"]
    assert len(table.user_ids) == 6
    assert table.titles[0] == ""


def test_encoder_data_has_ids_that_were_never_trained():
    data = encoder_data()
    assert data.n_users not in data.train.user
    assert data.n_items not in data.train.item
    assert set(np.unique(data.train.label)) == {0, 1}


def test_history_holds_earlier_positives_only():
    data = encoder_data()
    batch = encoder_batch(data, history_items=4)
    for row, history in enumerate(batch.history.tolist()):
        same_user = np.flatnonzero(data.train.user == data.train.user[row])
        earlier = [k for k in same_user if data.train.timestamp[k] < data.train.timestamp[row] and data.train.label[k]]
        items = [int(data.train.item[k]) for k in earlier][-4:]
        assert history == [0] * (4 - len(items)) + items


def test_tokenizer_gives_back_the_text():
    tokenizer = FakeTokenizer()
    text = 'A user liked "Heat (1995)", <unk>\nand more. Yes'
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert ids[-1] == tokenizer.answer.positive
    assert tokenizer.encode_many([text, "a"]) == [ids, tokenizer.encode("a")]
    assert tokenizer.bos_ids == (1,)
    assert FakeTokenizer(bos=False).bos_ids == ()


def test_tokenizer_says_when_it_is_full():
    with pytest.raises(ValueError, match="more than 5 words"):
        FakeTokenizer(5).encode("one two three")


def test_tiny_language_model_is_seeded_and_leaves_the_generator_alone():
    state = torch.random.get_rng_state()
    ids = torch.arange(4, 12)[None]
    one, two = tiny_language_model(seed=1), tiny_language_model(seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    with torch.no_grad():
        assert torch.equal(one(ids).logits, two(ids).logits)
