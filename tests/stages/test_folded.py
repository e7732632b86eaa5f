"""Encoders for more users and items: what stays bit by bit, what new ids get, and from which rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from test_continued import REGISTRY, Strictly, all_rows, config, context, fresh

from collm.contracts.data import InteractionTable, Limit
from collm.contracts.encoder import EncoderConfig, Sizes
from collm.data.prepare import prepare
from collm.data.prepared import PreparedData, Rows
from collm.engine.checkpoint import load_tensors
from collm.engine.encoder_task import EncoderBatcher, encoder_logits
from collm.errors import PluginError, RunError
from collm.model.encoder import EncoderModule
from collm.model.growth import find_tables, grown_state
from collm.stages.continued import continue_encoder
from collm.stages.fit_encoder import encoder_data, load_encoder
from collm.stages.folded import Fitted, folded_encoder, grown_encoder

SMALL: dict[str, dict[str, Any]] = {
    "mf-bias": {"embedding_size": 4},
    "mf": {"embedding_size": 4, "init_std": 0.1},
    "lightgcn": {"embedding_size": 4},
    "sasrec": {"embedding_size": 4},
    "din": {"embedding_size": 4},
}


class Table:
    """Two tastes: half of the users like half of the items; a larger table adds ids behind those of the small one."""

    def __init__(self, *, larger: bool) -> None:
        self.larger = larger

    def content_hash(self) -> str:
        return str(self.larger)

    def load(self) -> InteractionTable:
        generator = np.random.default_rng(0)
        users, items = np.meshgrid(np.arange(1, 21), np.arange(1, 13), indexing="ij")
        pairs = np.column_stack([users.ravel(), items.ravel()])
        kept = generator.permutation(len(pairs))[:180]
        user, item = pairs[kept].T
        split = np.array(["train"] * 140 + ["valid"] * 20 + ["test"] * 20)
        if self.larger:
            # User 21 likes three items of the first taste, and dislikes one of the other; users 1 to 6 rate item 13.
            user = np.concatenate([user, [21] * 4, np.arange(1, 7)])
            item = np.concatenate([item, [1, 3, 5, 2], [13] * 6])
            split = np.concatenate([split, ["test"] * 10])
        n = len(user)
        label = (user % 2) == (item % 2)
        frame = pl.DataFrame(
            {
                "user": pl.Series(user, dtype=pl.Int32),
                "item": pl.Series(item, dtype=pl.Int32),
                "label": pl.Series(label, dtype=pl.Int8),
                "rating": pl.Series(np.where(label, 5.0, 1.0), dtype=pl.Float32),
                "timestamp": pl.Series(np.arange(n), dtype=pl.Int64),
                "split": split,
                "row": pl.Series(np.arange(n), dtype=pl.Int64),
                "order": pl.Series(np.arange(n), dtype=pl.Int64),
            }
        )
        user_ids, item_ids = (["", *(str(i) for i in range(1, n + 1))] for n in (20 + self.larger, 12 + self.larger))
        return InteractionTable(frame, user_ids, item_ids, item_ids, "by row")


def tables(tmp_path: Path) -> tuple[PreparedData, PreparedData]:
    found = []
    for larger in (False, True):
        folder = tmp_path / f"data-{larger}"
        prepare(Table(larger=larger), limit=Limit(), history=Strictly(), folder=folder)
        found.append(PreparedData.open(folder))
    return found[0], found[1]


def fitted_on(tmp_path: Path, name: str, small: PreparedData, epochs: int = 40) -> tuple[Fitted, EncoderModule]:
    """An encoder that was fitted on the smaller table."""
    chosen = config(name, **SMALL[name])
    fit = chosen.fit.model_copy(update={"learning_rate": 0.05, "batch_size": 64})  # type: ignore[attr-defined]
    chosen = chosen.model_copy(update={"fit": fit})
    run, folder = context(tmp_path), tmp_path / f"parent-{name}"
    folder.mkdir()
    start = fresh(run, chosen, small).state_dict()
    rows = small.rows("train")
    encoder = continue_encoder(run, chosen, small, rows, start=start, epochs=epochs, folder=folder).encoder
    if settled := dict(encoder.settled()):
        chosen = chosen.model_copy(update=settled)
    state = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    return Fitted(chosen, state, Sizes(20, 12), rows), encoder


def loaded(run: Any, folder: Path, chosen: EncoderConfig, data: PreparedData) -> EncoderModule:
    stage: Any = type("Stage", (), {"folder": folder})
    return load_encoder(run, stage, chosen, data)


def scores(encoder: EncoderModule, data: PreparedData, rows: Rows) -> Any:
    return encoder_logits(encoder, EncoderBatcher.of(encoder, data, torch.device("cpu")), rows)


def asked(data: PreparedData, users: Any, items: Any) -> Rows:
    """Rows of a user with the histories that the last row of the user has."""
    last = {int(user): index for index, user in enumerate(data.column("user"))}
    rows = data.rows_at(np.array([last[user] for user in users]))
    return replace(rows, item=np.array(items, dtype=np.int64))


@pytest.mark.parametrize("name", SMALL)
def test_a_grown_encoder_scores_old_pairs_alike_and_knows_nothing_of_new_ids(name: str, tmp_path: Path) -> None:
    small, large = tables(tmp_path)
    fitted, encoder = fitted_on(tmp_path, name, small)
    run = context(tmp_path)
    grown_encoder(run, fitted, large, tmp_path)
    grown = loaded(run, tmp_path, fitted.config, large)
    np.testing.assert_allclose(scores(grown, large, small.rows("test")), scores(encoder, small, small.rows("test")))
    batcher = EncoderBatcher.of(grown, large, torch.device("cpu"))
    new = batcher(large.rows_at(np.arange(180, 184)))
    assert set(new.user.tolist()) == {21}
    unknown = replace(new, user=torch.zeros_like(new.user))
    with torch.no_grad():
        assert torch.equal(grown.score(new), grown.score(unknown))


@pytest.mark.parametrize("name", SMALL)
def test_folding_in_moves_the_rows_of_new_ids_alone(name: str, tmp_path: Path) -> None:
    small, large = tables(tmp_path)
    fitted, _ = fitted_on(tmp_path, name, small, epochs=2)
    run = context(tmp_path)
    facts = folded_encoder(run, fitted, large, all_rows(large), tmp_path)
    # Some of the old ids may be in validation and test rows alone; they are folded in, too.
    assert facts["folded_users"] >= 1 and facts["folded_items"] >= 1
    state = load_tensors(tmp_path / "encoder.safetensors")[0]
    trained = {"user": np.unique(fitted.rows.user), "item": np.unique(fitted.rows.item)}
    encoder = fresh(run, fitted.config, large)
    found = find_tables(
        encoder,
        lambda data: REGISTRY.get("encoder", name).load_factory()(fitted.config, data=data, context=run.build),
        encoder_data(large, 4),
    )
    assert found
    for key, tensor in state.items():
        if key not in found:
            assert torch.equal(tensor, fitted.state[key]), key
            continue
        for part in found[key]:
            now, was = part.first(Sizes(21, 13)), part.first(Sizes(20, 12))
            ids = np.concatenate([[0], trained[part.side]])
            assert torch.equal(tensor[now + ids], fitted.state[key][was + ids]), key
    assert facts["fold_in_steps"] == 200
    assert bool(facts.get("notes")) == (name == "lightgcn")


@pytest.mark.parametrize("refit", [True, False])
def test_folding_in_trains_what_goes_on_and_not_what_is_learnt_once(refit: bool, tmp_path: Path) -> None:
    small, large = tables(tmp_path)
    run, chosen = context(tmp_path), config("online", inner=config("mf-bias", embedding_size=4), refit=refit)
    start = fresh(run, chosen, small).state_dict()
    fitted = Fitted(chosen, start, Sizes(20, 12), small.rows("train"))
    facts = folded_encoder(run, fitted, large, all_rows(large), tmp_path)
    assert facts["fold_in_steps"] == 200
    state = load_tensors(tmp_path / "encoder.safetensors")[0]
    beginning = fresh(run, chosen, large).state_dict()["encoder.user_bias.weight"]
    assert not torch.equal(state["encoder.user_bias.weight"][21], beginning[21])
    assert torch.equal(state["combined.weights.weight"], start["combined.weights.weight"])


@pytest.mark.parametrize("name", SMALL)
def test_three_likes_say_what_a_new_user_likes(name: str, tmp_path: Path) -> None:
    small, large = tables(tmp_path)
    fitted, _ = fitted_on(tmp_path, name, small)
    run = context(tmp_path)
    (tmp_path / "folded").mkdir()
    grown_encoder(run, fitted, large, tmp_path)
    folded_encoder(run, fitted, large, all_rows(large), tmp_path / "folded")
    before, after = (loaded(run, folder, fitted.config, large) for folder in (tmp_path, tmp_path / "folded"))
    batcher = EncoderBatcher.of(after, large, torch.device("cpu"))
    batch = batcher(asked(large, [21], [7]))
    with torch.no_grad():
        assert not torch.equal(before.encode(batch).user, after.encode(batch).user)
    liked, other = asked(large, [21] * 3, [7, 9, 11]), asked(large, [21] * 3, [6, 8, 10])
    assert scores(after, large, liked).min() > scores(after, large, other).max()
    # Item 13 was liked by users 1, 3 and 5 of one taste, and not by 2, 4 and 6 of the other.
    same, different = asked(large, [7, 9, 11], [13] * 3), asked(large, [8, 10, 12], [13] * 3)
    assert scores(after, large, same).mean() > scores(after, large, different).mean()


def test_the_same_rows_give_the_same_bits(tmp_path: Path) -> None:
    small, large = tables(tmp_path)
    fitted, _ = fitted_on(tmp_path, "din", small, epochs=1)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        folded_encoder(context(tmp_path), fitted, large, all_rows(large), tmp_path / name)
    one, two = (load_tensors(tmp_path / name / "encoder.safetensors")[0] for name in ("one", "two"))
    assert all(torch.equal(tensor, two[key]) for key, tensor in one.items())


class Wide(EncoderModule):
    """A table with one column per user: not a form that can grow by rows."""

    def __init__(self, n_users: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3, n_users + 1))


class Layer(EncoderModule):
    """A layer that is as wide as there are users, by chance."""

    def __init__(self, n_users: int, width: int) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.zeros(n_users + 1, 2))
        self.layer = torch.nn.Linear(2, width)


def test_tables_are_told_from_layers_of_the_same_size(tmp_path: Path) -> None:
    data = encoder_data(tables(tmp_path)[0], 4)
    width = data.n_users + 1
    found = find_tables(Layer(data.n_users, width), lambda other: Layer(other.n_users, width), data)
    assert set(found) == {"table"}
    with pytest.raises(PluginError, match="not one row per id; it must say in `id_tables`"):
        find_tables(Wide(data.n_users), lambda other: Wide(other.n_users), data)


def test_ids_never_go_away_and_weights_must_be_of_the_encoder() -> None:
    state = {"table": torch.zeros(3, 2)}
    with pytest.raises(RunError, match="ids are only added"):
        grown_state(state, state, {}, before=Sizes(2, 2), now=Sizes(1, 2))
    with pytest.raises(RunError, match="only in one of two"):
        grown_state(state, {"other": torch.zeros(3, 2)}, {}, before=Sizes(2, 2), now=Sizes(2, 2))
    with pytest.raises(RunError, match="has shape"):
        grown_state(state, {"table": torch.zeros(4, 2)}, {}, before=Sizes(2, 2), now=Sizes(2, 2))
