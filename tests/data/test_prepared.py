"""Writing and opening a prepared dataset."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from small_tables import FixedSource

from collm.contracts.data import SPLITS, InteractionTable, Limit
from collm.data.draws import draw_whole_users
from collm.data.history import index_histories, last_positives
from collm.data.prepare import prepare
from collm.data.prepared import PreparedData, Rows
from collm.data.prepared_files import FILES, ColumnFile
from collm.errors import DataError


def prepared(table: InteractionTable, folder: Path, *, limit: Limit | None = None) -> PreparedData:
    history: Any = SimpleNamespace(visibility="strictly-earlier", max_items=10)
    prepare(FixedSource(table), limit=limit or Limit(), history=history, folder=folder)
    return PreparedData.open(folder)


def test_rows_are_the_table_in_source_order(make_table: Any, tmp_path: Path) -> None:
    table = make_table()
    data = prepared(table, tmp_path / "data")
    for split in SPLITS:
        expected = table.frame.filter(pl.col("split") == split).sort("row")
        rows = data.rows(split)
        for name in ("user", "item", "label", "timestamp", "row"):
            np.testing.assert_array_equal(getattr(rows, name), expected[name].to_numpy())
        assert len(rows) == data.counts()[split] == data.full_counts()[split]
    assert data.rows("train").label.dtype == np.int8
    assert data.titles == list(table.titles) and data.user_ids == list(table.user_ids)
    assert (data.n_users, data.n_items, data.visibility, data.notes) == (7, 9, "strictly-earlier", ("a note",))


def test_train_counts_and_histories(make_table: Any, tmp_path: Path) -> None:
    table = make_table(1)
    data = prepared(table, tmp_path / "data", limit=Limit(train=20, test=5))
    train = table.frame.filter(pl.col("split") == "train")
    np.testing.assert_array_equal(data.user_train_rows, np.bincount(train["user"].to_numpy(), minlength=8))
    np.testing.assert_array_equal(data.item_train_rows, np.bincount(train["item"].to_numpy(), minlength=10))
    frame = table.frame.sort("row")
    every = last_positives(index_histories(frame, "strictly-earlier"), frame["item"].to_numpy().astype(np.int64), 6)
    rows = data.rows("test")
    np.testing.assert_array_equal(data.history(rows, 6), every[np.searchsorted(frame["row"].to_numpy(), rows.row)])


def test_limit_keeps_whole_users_and_says_so(make_table: Any, tmp_path: Path) -> None:
    table = make_table(2)
    full, data = prepared(table, tmp_path / "full"), prepared(table, tmp_path / "cut", limit=Limit(train=30, seed=4))
    rows, all_rows = data.rows("train"), full.rows("train")
    assert len(rows) >= 30 and len(rows) < len(all_rows)
    kept = np.isin(all_rows.user, np.unique(rows.user))
    np.testing.assert_array_equal(rows.row, all_rows.row[kept])
    assert len(data.rows("valid")) == len(full.rows("valid"))
    assert data.counts()["train"] == len(rows) and data.full_counts()["train"] == len(all_rows)
    assert f"train {len(rows)} of {len(all_rows)} rows (whole users drawn, limit.seed 4)" in data.notes[-1]


def test_limit_of_rows_per_user(make_table: Any, tmp_path: Path) -> None:
    table = make_table(2, n_rows=400)
    full = prepared(table, tmp_path / "full")
    two, one = (prepared(table, tmp_path / f"{n}", limit=Limit(user_rows=n, seed=4)) for n in (2, 1))
    few = prepared(table, tmp_path / "few", limit=Limit(user_rows=2, test=5, seed=4))
    assert len(two.rows("train")) == len(full.rows("train"))
    for split in ("valid", "test"):
        every, kept = full.rows(split), two.rows(split)
        counts = np.bincount(every.user, minlength=8)
        assert counts.max() > 2
        np.testing.assert_array_equal(np.bincount(kept.user, minlength=8), np.minimum(counts, 2))
        assert set(one.rows(split).row) <= set(kept.row) <= set(every.row)
        places = np.searchsorted(every.row, kept.row)
        np.testing.assert_array_equal(two.history(kept, 4), full.history(every, 4)[places])
    rows = few.rows("test")
    assert 5 <= len(rows) <= 6 and np.isin(rows.row, two.rows("test").row).all()
    np.testing.assert_array_equal(np.bincount(rows.user)[np.unique(rows.user)], 2)
    assert "(users drawn with 2 of their validation and test rows at most, limit.seed 4)" in few.notes[-1]


def test_the_same_input_gives_the_same_bytes(make_table: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        prepared(make_table(3), tmp_path / name, limit=Limit(train=30, seed=1))
    for name in (*FILES, "manifest.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert str(tmp_path) not in (tmp_path / "a" / "manifest.json").read_text()


def test_drawing_users_is_nested_and_seeded() -> None:
    user = np.repeat(np.arange(50), 4)
    rows = Rows(user, user, user.astype(np.int8), user, np.arange(200), np.arange(200))
    few, many, other = draw_whole_users(rows, 20, 1), draw_whole_users(rows, 90, 1), draw_whole_users(rows, 20, 2)
    assert len(few) == 20 and len(many) == 92
    assert set(few.user) < set(many.user)
    assert set(few.user) != set(other.user)
    assert (np.diff(few.row) > 0).all()
    assert draw_whole_users(rows, 200, 1) is rows


def test_unknown_split_and_broken_folders(make_table: Any, tmp_path: Path) -> None:
    data = prepared(make_table(), tmp_path / "data")
    with pytest.raises(DataError, match="split 'dev' does not exist; splits are train, valid, test"):
        data.rows("dev")
    with pytest.raises(DataError, match="not a prepared dataset"):
        PreparedData.open(tmp_path)
    (tmp_path / "data" / "users.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"users\.parquet: cannot be read"):
        PreparedData.open(tmp_path / "data")
    prepared(make_table(), tmp_path / "data")
    pl.DataFrame({"item": [1]}).write_parquet(tmp_path / "data" / "positives.parquet")
    with pytest.raises(DataError, match=r"positives\.parquet: holds 1 rows, the manifest says"):
        PreparedData.open(tmp_path / "data")
    manifest = tmp_path / "data" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "schema": 9}))
    with pytest.raises(DataError, match="schema is 9, this version reads 1"):
        PreparedData.open(tmp_path / "data")


def test_long_files_are_read_in_their_order(tmp_path: Path) -> None:
    """Several stretches of a file are read at a time from some 200,000 rows on."""
    path, n = tmp_path / "long.parquet", 300_000
    place = np.random.default_rng(0).integers(0, len(SPLITS) + 2, n)
    names = [*SPLITS, None, "other"]
    pl.DataFrame({"split": [names[each] for each in place], "user": np.arange(n)}).write_parquet(path)
    manifest = {"files": {path.name: {"rows": n, "bytes": path.stat().st_size}}}
    for _ in range(5):
        file = ColumnFile(path, manifest)
        np.testing.assert_array_equal(file.split_places(), np.minimum(place, len(SPLITS)))
        np.testing.assert_array_equal(file.array("user"), np.arange(n))
    assert file.split_places().dtype == np.uint8
