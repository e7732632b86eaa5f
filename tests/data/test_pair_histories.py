"""Histories of pairs that are not rows of the dataset, beside a search through all rows."""

from __future__ import annotations

from typing import cast

import numpy as np
import polars as pl
import pytest

from collm.contracts.data import Visibility
from collm.data.history import HistoryIndex, last_positives
from collm.data.pairs import IdPlaces, PairHistories, pair_rows
from collm.data.prepared import PreparedData


class Table:
    """As much of a prepared dataset as histories of pairs need."""

    def __init__(self, frame: pl.DataFrame, visibility: Visibility) -> None:
        self._frame, self.visibility, self.titles = frame, visibility, ()
        self.index: HistoryIndex | None = None

    def interactions(self) -> pl.DataFrame:
        return self._frame

    def with_histories(self, index: HistoryIndex, titles: object, *, past: object) -> Table:
        view = Table(self._frame, self.visibility)
        view.index = index
        return view


def table(seed: int) -> pl.DataFrame:
    generator = np.random.default_rng(seed)
    n = 300
    frame = pl.DataFrame(
        {
            "user": generator.integers(1, 9, n),
            "item": generator.integers(1, 12, n),
            "label": generator.integers(0, 2, n),
            "timestamp": generator.integers(0, 25, n),
            "split": generator.choice(["train", "valid", "test"], n),
        }
    )
    return frame.sort("user", "timestamp", maintain_order=True).with_columns(order=pl.int_range(pl.len()).over("user"))


@pytest.mark.parametrize("visibility", ["all", "strictly-earlier", "as-of-split"])
@pytest.mark.parametrize("with_time", [True, False])
def test_histories_are_those_of_a_search(visibility: Visibility, with_time: bool) -> None:
    frame = table(4)
    generator = np.random.default_rng(5)
    user, item = generator.integers(0, 11, 400), generator.integers(0, 12, 400)
    time = generator.integers(-2, 28, 400) if with_time else None
    view, rows = pair_rows(cast(PreparedData, Table(frame, visibility)), user, item, time)
    index = cast(Table, view).index
    assert index is not None
    found = last_positives(index, rows.item, 4)
    for place in range(len(user)):
        seen = frame.filter((pl.col("user") == user[place]) & (pl.col("label") == 1))
        if time is not None:
            seen = seen.filter(pl.col("timestamp") < time[place])
        if visibility == "as-of-split":
            seen = seen.filter(pl.col("split") == "train")
        items = seen.sort("order")["item"].to_list()
        if visibility != "all":
            items = [each for each in items if each != item[place]]
        assert [each for each in found[place].tolist() if each] == items[-4:]


def test_one_sorting_serves_any_number_of_questions() -> None:
    data = cast(PreparedData, Table(table(6), "strictly-earlier"))
    histories = PairHistories(data)
    for time in (None, np.array([7, 30])):
        again, once = (
            histories.rows(np.array([3, 4]), np.array([1, 2]), time),
            pair_rows(data, np.array([3, 4]), np.array([1, 2]), time),
        )
        first, second = cast(Table, again[0]).index, cast(Table, once[0]).index
        assert first is not None
        assert second is not None
        assert first.end.tolist() == second.end.tolist()
        assert first.start.tolist() == second.start.tolist()


def test_places_of_ids() -> None:
    places = IdPlaces(["", "a", "b", "a"])
    assert places.of(["b", "a", "", "zz"]).tolist() == [2, 3, 0, 0]
    assert places.of([]).tolist() == []


def test_an_empty_dataset_has_no_histories() -> None:
    view, rows = pair_rows(
        cast(PreparedData, Table(table(4).clear(), "all")), np.array([1]), np.array([1]), np.array([5])
    )
    index = cast(Table, view).index
    assert index is not None
    assert last_positives(index, rows.item, 3).tolist() == [[0, 0, 0]]
