"""Vectors of one's own: formats, ids, scores against numpy and scikit-learn, and everything that is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from vector_files import (
    COMPONENT,
    DATA,
    FORMS,
    REGISTRY,
    WIDTH,
    all_pairs,
    build,
    expected_tables,
    settings_in,
    vectors_of,
    write,
)

from collm.contracts.encoder import EncoderBatch
from collm.testing.fakes import N_USERS
from collm.testing.plugin_check import check_component


@pytest.mark.parametrize("form", FORMS)
def test_every_format_gives_the_vectors_of_its_ids(tmp_path: Path, form: str) -> None:
    encoder, wanted = build(settings_in(tmp_path, form)), expected_tables()
    np.testing.assert_allclose(encoder.user_vectors.detach(), wanted["user"], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(encoder.item_vectors.detach(), wanted["item"], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("score", ["dot", "cosine", "logistic"])
def test_it_keeps_the_contract(tmp_path: Path, score: str) -> None:
    for data in (None, DATA):
        results = check_component(COMPONENT, registry=REGISTRY, settings=settings_in(tmp_path, score=score), data=data)
        assert [(each.name, each.fault) for each in results if not each.ok] == []


def test_dot_and_cosine_are_numpys(tmp_path: Path) -> None:
    batch, tables = all_pairs(), expected_tables()
    u, v = tables["user"][batch.user.numpy()], tables["item"][batch.item.numpy()]
    dot = (u * v).sum(axis=1)
    cosine = dot / np.linalg.norm(u, axis=1) / np.linalg.norm(v, axis=1)
    for score, wanted in (("dot", dot), ("cosine", cosine)):
        got = build(settings_in(tmp_path, score=score)).score(batch).detach().numpy()
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_a_zero_vector_has_cosine_zero_and_is_counted(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, score="cosine")
    ids, vectors = vectors_of("item")
    vectors[ids.index("i5")] = 0
    settings |= write(tmp_path, "item", "npy", ids, vectors)
    encoder = build(settings)
    scores = encoder.score(EncoderBatch(user=torch.arange(1, 5), item=torch.full((4,), 5)))
    assert scores.tolist() == [0.0] * 4
    assert any(note.startswith("1 users or items have the vector 0") for note in encoder.describe().score_notes)


@pytest.mark.parametrize("item_width", [WIDTH, 4])
def test_the_logistic_head_is_scikit_learns(tmp_path: Path, item_width: int) -> None:
    encoder = build(settings_in(tmp_path, score="logistic", item_width=item_width, l2=0.5))
    user, item = encoder.user_vectors.detach().double().numpy(), encoder.item_vectors.detach().double().numpy()

    def features(users: Any, items: Any) -> np.ndarray[Any, Any]:
        u, v = user[users], item[items]
        return np.hstack([u, v, u * v] if u.shape == v.shape else [u, v])

    train = features(DATA.train.user, DATA.train.item)
    centre, scale = train.mean(axis=0), train.std(axis=0)
    reference = LogisticRegression(C=2.0, max_iter=1000).fit((train - centre) / scale, DATA.train.label)
    batch = all_pairs()
    rows = (features(batch.user.numpy(), batch.item.numpy()) - centre) / scale
    np.testing.assert_allclose(
        encoder.score(batch).detach().numpy(), reference.decision_function(rows), rtol=1e-4, atol=1e-4
    )
    said = encoder.describe()
    assert said.facts["converged"]
    assert said.facts["train_rows"] == len(DATA.train.user)
    assert any("ranks the items alike for all users" in note for note in said.score_notes) == (item_width != WIDTH)


def test_the_logistic_head_is_fitted_on_so_many_rows_at_most(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, score="logistic", fit_rows=50)
    first, second = build(settings), build(settings)
    assert first.describe().facts["train_rows"] == 50
    assert torch.equal(first.head_weight, second.head_weight)


def test_missing_and_unused_ids_are_counted_and_said(tmp_path: Path) -> None:
    said = build(settings_in(tmp_path)).describe()
    assert said.facts["users"] == {
        "width": WIDTH,
        "in_file": N_USERS,
        "in_data": N_USERS,
        "without_vector": 1,
        "not_in_data": 1,
    }
    assert said.facts["items"]["without_vector"] == 1
    assert said.notes[0] == (
        f"1 of {N_USERS} users have no vector in the file of user vectors; the mean of its {N_USERS} vectors stands "
        "for each of them."
    )
    assert said.notes[1] == f"1 of {N_USERS} ids in the file of user vectors are not in the data."


def test_numbers_as_ids_and_half_precision_are_read(tmp_path: Path) -> None:
    data = replace(DATA, user_ids=["", *map(str, range(1, N_USERS + 1))])
    settings = settings_in(tmp_path)
    del settings["user_ids"]
    values = np.arange(N_USERS * WIDTH, dtype=np.float32).reshape(N_USERS, WIDTH)
    settings["users"] = str(tmp_path / "u.parquet")
    pl.DataFrame({"id": np.arange(1, N_USERS + 1), "v": values.tolist()}).write_parquet(settings["users"])
    item_ids, items = vectors_of("item")
    save_file({"x": torch.from_numpy(items).to(torch.bfloat16)}, tmp_path / "i.safetensors")
    encoder = build(settings | {"items": str(tmp_path / "i.safetensors")}, data)
    np.testing.assert_array_equal(encoder.user_vectors.detach()[1:], values)
    row = items[item_ids.index("i7")]
    np.testing.assert_allclose(encoder.item_vectors.detach()[7], row, rtol=1e-2)
