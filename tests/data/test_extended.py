"""A dataset with rows that came later: old ids and rows keep their places, histories are those of the whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from small_tables import FixedSource, TableMaker

from collm.component import BuildContext
from collm.contracts.data import SAMPLED, DatasetConfig, Limit
from collm.data.extended import NewInteractions, rows_seen, write_extended
from collm.data.prepare import prepare
from collm.data.prepared import PreparedData
from collm_prepared.source import PreparedFolder


class Rule:
    def __init__(self, visibility: str) -> None:
        self.visibility: Any = visibility


def opened(table: Any, folder: Path, *, visibility: str = "strictly-earlier", **limit: Any) -> PreparedData:
    prepare(FixedSource(table), limit=Limit(**limit), history=Rule(visibility), folder=folder)
    return PreparedData.open(folder)


def rows(*given: tuple[str, str, int, int]) -> NewInteractions:
    frame = pl.DataFrame(given, schema=["user", "item", "label", "timestamp"], orient="row")
    frame = frame.with_columns(pl.col("label").cast(pl.Int8), rating=pl.lit(None, dtype=pl.Float32))
    return NewInteractions(frame, {"900": "Nine hundred"})


def extended(tmp_path: Path, data: PreparedData, new: NewInteractions) -> PreparedData:
    write_extended(data, new, tmp_path / "new", content="both")
    return PreparedData.open(tmp_path / "new")


NEW = (
    ("100", "900", 1, 30),
    ("zoe", "500", 1, 31),
    ("zoe", "901", 0, 31),
    ("zoe", "501", 1, 32),
    ("100", "501", 0, 33),
)


def test_old_ids_and_rows_stay_and_new_ones_follow(tmp_path: Path, make_table: TableMaker) -> None:
    data = opened(make_table(), tmp_path / "old")
    found = extended(tmp_path, data, rows(*NEW))
    assert list(found.user_ids) == [*data.user_ids, "zoe"]
    assert list(found.item_ids) == [*data.item_ids, "900", "901"]
    assert list(found.titles) == [*data.titles, "Nine hundred", "item 901"]
    old, new = data.interactions(), found.interactions()
    for name in ("user", "item", "label", "rating", "timestamp", "row"):
        assert new[name].head(old.height).equals(old[name])
    assert new["split"].head(old.height).to_list() == old["split"].replace("test", "train").to_list()
    added = found.rows("test")
    assert len(added) == len(NEW)
    assert [found.user_ids[user] for user in added.user] == [each[0] for each in NEW]
    assert [found.item_ids[item] for item in added.item] == [each[1] for each in NEW]
    assert len(rows_seen(found)) == len(rows_seen(data)) + len(NEW)
    assert any(note == "The parent's data: a note" for note in found.notes)


def test_histories_of_new_rows_hold_earlier_likes_of_old_and_new_rows(tmp_path: Path, make_table: TableMaker) -> None:
    data = opened(make_table(), tmp_path / "old")
    found = extended(tmp_path, data, rows(*NEW))
    last = found.rows("test").take(np.array([3, 4]))
    seen = found.history(last, 200)
    table = data.interactions().filter((pl.col("user") == 1) & (pl.col("label") == 1)).sort("order")
    target = found.item_ids[last.item[1]]
    wanted = [*(found.item_ids[item] for item in table["item"]), "900"]
    assert [found.item_ids[item] for item in seen[1] if item] == [each for each in wanted if each != target]
    # Zoe's dislike is in no history, and the row itself is not.
    assert [found.item_ids[item] for item in seen[0] if item] == ["500"]


def test_earlier_rows_are_put_into_their_place(tmp_path: Path, make_table: TableMaker) -> None:
    data = opened(make_table(), tmp_path / "old")
    found = extended(tmp_path, data, rows(("100", "900", 1, 0), ("101", "500", 0, 40)))
    mine = found.interactions().filter(pl.col("user") == 1).sort("order")
    assert mine["timestamp"].is_sorted()
    assert mine["item"][0] == len(data.item_ids)
    assert mine["order"].to_list() == list(range(mine.height))
    before = data.interactions().filter(pl.col("user") == 1).sort("order")["row"].to_list()
    assert mine["row"].to_list()[1:] == before


def test_under_as_of_split_new_rows_see_all_old_rows_and_none_of_each_other(
    tmp_path: Path, make_table: TableMaker
) -> None:
    data = opened(make_table(), tmp_path / "old", visibility="as-of-split")
    found = extended(tmp_path, data, rows(*NEW))
    last = found.rows("test").take(np.array([3, 4]))
    seen = found.history(last, 200)
    assert not seen[0].any()
    likes = data.interactions().filter(
        (pl.col("user") == 1) & (pl.col("label") == 1) & pl.col("split").is_in(["train", "test"])
    )
    assert (seen[1] != 0).sum() == likes.filter(pl.col("item") != int(last.item[1])).height
    assert any("enter histories with the next update" in note for note in found.notes)


def test_rows_that_a_limit_left_out_stand_in_histories_alone(tmp_path: Path, make_table: TableMaker) -> None:
    data = opened(make_table(), tmp_path / "old", train=40, test=5)
    found = extended(tmp_path, data, rows(*NEW))
    assert len(found.rows("train")) == len(data.rows("train")) + len(data.rows("test"))
    left_out = 200 - len(rows_seen(data))
    assert f"{left_out:,} rows that a limit had left out of the splits appear in histories alone." in found.notes


def test_flags_and_attributes_go_on(tmp_path: Path, make_table: TableMaker) -> None:
    table = make_table()
    frame = table.frame.with_columns((pl.col("row") % 2 == 0).alias(SAMPLED))
    attributes = pl.DataFrame({"age": range(len(table.user_ids))})
    data = opened(replace(table, frame=frame, user_attributes=attributes), tmp_path / "old")
    found = extended(tmp_path, data, rows(*NEW))
    assert not found.column(SAMPLED)[-len(NEW) :].any()
    assert np.array_equal(found.column(SAMPLED)[: -len(NEW)], data.column(SAMPLED))
    assert found.user_attributes is not None
    assert found.user_attributes["age"].to_list() == [*attributes["age"], None]


@pytest.mark.parametrize("visibility", ["strictly-earlier", "all", "as-of-split"])
def test_the_folder_is_one_that_a_spec_can_name(tmp_path: Path, make_table: TableMaker, visibility: Any) -> None:
    data = opened(make_table(), tmp_path / "old", visibility=visibility)
    extended(tmp_path, data, rows(*NEW))
    source = PreparedFolder(DatasetConfig(name="prepared", path=tmp_path / "new"), context=BuildContext(tmp_path))
    assert source.content_hash()
    assert source.written(visibility=visibility, limit=Limit()) == tmp_path / "new"


def test_what_was_written_is_left_as_it_is(tmp_path: Path, make_table: TableMaker) -> None:
    data = opened(make_table(), tmp_path / "old")
    extended(tmp_path, data, rows(*NEW))
    again = extended(tmp_path, data, rows(NEW[0]))
    assert len(again.rows("test")) == len(NEW)
