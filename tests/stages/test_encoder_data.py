"""What an encoder may see of prepared data, and what it may not; errors of its code name it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from collm.component import BuildContext, Component
from collm.contracts.data import DatasetConfig, InteractionTable, Limit
from collm.contracts.encoder import EncoderConfig, EncoderData, EncoderFacts, TrainRows
from collm.data.checks import check_table
from collm.data.prepare import prepare
from collm.data.prepared import PreparedData
from collm.engine.encoder_task import EncoderBatcher, EncoderTask, encoder_logits
from collm.errors import DataError, PluginError
from collm.model.encoder import EncoderModule, naming_encoder
from collm.registry import default_registry
from collm.stages.fit_encoder import encoder_data, encoder_facts, fit_directly
from collm.testing.fakes import encoder_data_of, interaction_table
from collm_prepared.source import PreparedFolder


class Source:
    """A source that gives one table."""

    def __init__(self, table: InteractionTable) -> None:
        self.table = table

    def content_hash(self) -> str:
        return "hash"

    def load(self) -> InteractionTable:
        return self.table


class Strictly:
    visibility = "strictly-earlier"


TABLE = interaction_table()


def prepared(folder: Path, table: InteractionTable = TABLE) -> PreparedData:
    prepare(Source(table), limit=Limit(), history=Strictly(), folder=folder)
    return PreparedData.open(folder)


def test_every_field_beside_the_table(tmp_path: Path) -> None:
    unrated = TABLE.frame.with_columns(pl.when(pl.col("row") % 5 != 0).then("rating"))
    data = prepared(tmp_path, replace(TABLE, frame=unrated))
    seen = encoder_data(data, 7)
    train, valid = (unrated.filter(pl.col("split") == name) for name in ("train", "valid"))
    assert list(seen.user_ids) == list(TABLE.user_ids)
    assert list(seen.item_ids) == list(TABLE.item_ids)
    assert seen.train.rating is not None
    assert seen.train.rating.dtype == np.float32
    np.testing.assert_array_equal(seen.train.rating, train["rating"].to_numpy())
    assert np.isnan(seen.train.rating).sum() == train["rating"].null_count() > 0
    assert seen.valid is not None
    assert list(zip(seen.valid.user, seen.valid.item, strict=True)) == valid.select("user", "item").rows()
    assert set(vars(seen.valid)) == {"user", "item"}
    for got, wanted in ((seen.user_attributes, TABLE.user_attributes), (seen.item_attributes, TABLE.item_attributes)):
        assert got is not None and wanted is not None
        assert got.equals(wanted)


def test_ratings_belong_to_the_rows_that_are_left(tmp_path: Path) -> None:
    data = prepared(tmp_path)
    rows = data.rows("train")
    kept = rows.take(np.arange(0, len(rows), 3))
    seen = encoder_data(data.trained_on(kept), 5)
    assert seen.train.rating is not None
    rating = dict(TABLE.frame.select("row", "rating").iter_rows())
    assert seen.train.rating.tolist() == [rating[row] for row in kept.row.tolist()]


def test_a_folder_without_attributes_is_as_it_was(tmp_path: Path) -> None:
    bare = replace(TABLE, user_attributes=None, item_attributes=None)
    data = prepared(tmp_path / "bare", bare)
    assert (data.user_attributes, data.item_attributes) == (None, None)
    assert sorted(data.manifest["files"]) == [
        "interactions.parquet",
        "items.parquet",
        "positives.parquet",
        "users.parquet",
    ]
    full = prepared(tmp_path / "full")
    assert {name: full.manifest["files"][name] for name in data.manifest["files"]} == data.manifest["files"]
    assert {*full.manifest["files"]} - {*data.manifest["files"]} == {
        "user_attributes.parquet",
        "item_attributes.parquet",
    }


def test_attributes_pass_through_a_prepared_folder(tmp_path: Path) -> None:
    data = prepared(tmp_path / "first")
    source = PreparedFolder(DatasetConfig(name="prepared", path=tmp_path / "first"), context=BuildContext(tmp_path))
    before = source.content_hash()
    for name, limit in (("linked", Limit()), ("read", Limit(train=40))):
        prepare(source, limit=limit, history=Strictly(), folder=tmp_path / name)
        again = PreparedData.open(tmp_path / name)
        assert again.item_attributes is not None and data.item_attributes is not None
        assert again.item_attributes.equals(data.item_attributes)
    path = tmp_path / "first" / "item_attributes.parquet"
    pl.read_parquet(path).head(5).write_parquet(path)
    again = PreparedFolder(DatasetConfig(name="prepared", path=tmp_path / "first"), context=BuildContext(tmp_path))
    with pytest.raises(DataError, match=r"item_attributes\.parquet: sha256 is"):
        again.content_hash()
    assert before == source.content_hash()


@pytest.mark.parametrize("wrong", [pl.DataFrame({"age": [1, 2]}), pl.DataFrame()])
def test_attributes_have_a_row_per_id(wrong: pl.DataFrame) -> None:
    with pytest.raises(
        DataError, match=r"user attributes have .*expected 13 rows, one per dense id, and a column or more"
    ):
        check_table(replace(TABLE, user_attributes=wrong))


def test_data_of_older_code_still_builds() -> None:
    columns = [np.zeros(0)] * 5
    old = EncoderData(n_users=1, n_items=1, titles=["", "a"], train=TrainRows(*columns), history_items=3)
    assert (old.user_ids, old.item_attributes, old.valid, old.train.rating) == ((), None, None, None)


def test_rows_of_ones_own_for_the_contract(tmp_path: Path) -> None:
    data = prepared(tmp_path)
    own = encoder_data_of(data, history_items=4, n_rows=30)
    assert len(own.train.user) == len(own.train.row) == 30
    assert own.train.user.max() < own.n_users
    assert own.train.item.max() < own.n_items
    by_row = {row: pair for row, *pair in TABLE.frame.select("row", "user", "item", "label").iter_rows()}
    train = own.train
    found = zip(train.row.tolist(), train.user.tolist(), train.item.tolist(), train.label.tolist(), strict=True)
    assert all(by_row[row] == pair for row, *pair in found)


class Clumsy(EncoderModule):
    """Raises where it is told to."""

    gives = frozenset({"scores", "vectors"})
    fit_mode = "direct"
    user_dim = item_dim = 2
    origin = "encoder 'clumsy' (plugin collm_clumsy)"

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.error = error

    def score(self, batch: Any) -> torch.Tensor:
        raise self.error

    def fit_direct(self, data: Any, batches: Any) -> None:
        raise self.error

    def describe(self) -> EncoderFacts:
        raise self.error


def test_errors_name_the_encoder_and_the_method(tmp_path: Path) -> None:
    from collm.contracts.encoder import FitConfig, FitPhase

    data, error = prepared(tmp_path), KeyError("no such genre")
    clumsy = Clumsy(error)
    batcher = EncoderBatcher.of(clumsy, data, torch.device("cpu"))
    rows = data.rows("train")
    task = EncoderTask(
        clumsy, FitPhase("fit", clumsy, FitConfig()), title="fit", batcher=batcher, train=rows, valid=rows, seed=0
    )
    calls = {
        "score": lambda: encoder_logits(clumsy, batcher, rows),
        "loss": lambda: task.loss_sum(np.arange(3)),
        "fit_direct": lambda: fit_directly(clumsy, data, batcher, history_items=3),
        "describe": lambda: encoder_facts(clumsy),
    }
    for method, call in calls.items():
        with pytest.raises(PluginError) as raised:
            call()
        assert str(raised.value).startswith(
            f"encoder 'clumsy' (plugin collm_clumsy): `{method}` raised KeyError: 'no such genre'; `collm --debug"
        )
        assert raised.value.__cause__ is error
        assert raised.value.exit_code == 3


@pytest.mark.parametrize(
    "error", [DataError("own words"), MemoryError(), RuntimeError("CUDA out of memory"), OSError(28, "no space left")]
)
def test_errors_with_words_of_their_own_pass(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, naming_encoder(Clumsy(error), "score"):
        raise error
    assert raised.value is error


def test_an_encoder_of_a_class_of_its_own_has_nothing_to_say() -> None:
    assert encoder_facts(torch.nn.Linear(1, 1)) == {}  # type: ignore[arg-type]


def build_bad(config: EncoderConfig, *, data: EncoderData, context: BuildContext) -> Any:
    raise IndexError("row 5 of the file")


def test_a_factory_is_named(tmp_path: Path) -> None:
    from collm.spec.node import Place
    from collm.spec.read import read_text
    from collm.spec.resolve import resolve_document
    from collm.stages.fit_encoder import build_encoder

    registry = default_registry()
    spec = resolve_document(
        read_text("{name: s, dataset: {name: tiny}, encoder: {name: mf}}", Place("s.yaml", folder=tmp_path)), registry
    )
    bad = Component("encoder", "bad", f"{__name__}:build_bad", EncoderConfig, "Raises.", gives=frozenset({"scores"}))
    with pytest.raises(PluginError, match=r"encoder 'bad' \(plugin \w+\): `build_bad` raised IndexError: row 5 of"):
        build_encoder(bad, EncoderConfig(name="bad"), prepared(tmp_path), spec, BuildContext(tmp_path))
