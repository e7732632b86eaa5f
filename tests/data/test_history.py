"""Histories against a naive loop over all pairs of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from collm.data import columns
from collm.data.history import HistoryIndex, index_histories, last_positives

VISIBILITIES = ("all", "strictly-earlier", "as-of-split")


def naive(frame: pl.DataFrame, visibility: str, max_items: int) -> np.ndarray[Any, Any]:
    rows = frame.to_dicts()
    out = np.zeros((len(rows), max_items), dtype=np.int64)
    for place, row in enumerate(rows):
        seen = []
        for other in sorted((r for r in rows if r["user"] == row["user"]), key=lambda r: r["order"]):
            if other["label"] != 1 or other["row"] == row["row"]:
                continue
            if visibility == "all":
                visible = other["order"] < row["order"]
            else:
                visible = other["timestamp"] < row["timestamp"] and other["item"] != row["item"]
            if visibility == "as-of-split":
                visible = visible and other["split"] == "train"
            if visible:
                seen.append(other["item"])
        seen = seen[-max_items:]
        out[place, max_items - len(seen) :] = seen
    return out


@pytest.mark.parametrize("visibility", VISIBILITIES)
@pytest.mark.parametrize(
    ("seed", "n_items", "n_times"), [(0, 3, 5), (1, 9, 40), (2, 50, 3), (3, 200, 1000), (4, 1, 200)]
)
@pytest.mark.parametrize("max_items", [1, 4, 30])
def test_equals_a_naive_loop(
    make_table: Any, visibility: Any, seed: int, n_items: int, n_times: int, max_items: int
) -> None:
    frame = make_table(seed, n_items=n_items, n_times=n_times, n_rows=150).frame
    index = index_histories(frame, visibility)
    found = last_positives(index, frame["item"].to_numpy().astype(np.int64), max_items)
    np.testing.assert_array_equal(found, naive(frame, visibility, max_items))


@pytest.mark.parametrize("visibility", VISIBILITIES)
@pytest.mark.parametrize("gaps", [False, True])
def test_users_in_several_blocks_and_orders_with_gaps(
    make_table: Any, visibility: Any, gaps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = make_table(7, n_rows=150, n_users=40, n_items=6).frame
    whole = index_histories(frame, visibility)
    monkeypatch.setattr(columns, "_PIECE_ROWS", 8)
    if gaps:
        frame = frame.with_columns(pl.col("order") * 2 + 10)
    index = index_histories(frame, visibility)
    assert index.repeats == whole.repeats
    for name in ("positives", "start", "end"):
        np.testing.assert_array_equal(getattr(index, name), getattr(whole, name))
    found = last_positives(index, frame["item"].to_numpy().astype(np.int64), 3)
    np.testing.assert_array_equal(found, naive(frame, visibility, 3))


@pytest.mark.parametrize("visibility", ["strictly-earlier", "as-of-split"])
def test_the_target_is_never_in_its_own_history(make_table: Any, visibility: Any) -> None:
    frame = make_table(5, n_rows=400, n_users=3, n_items=4, n_times=60).frame
    target = frame["item"].to_numpy().astype(np.int64)
    found = last_positives(index_histories(frame, visibility), target, 50)
    assert (found > 0).any()
    assert not (found == target[:, None]).any()


def test_offsets_are_not_copies(make_table: Any) -> None:
    frame = make_table(6, n_rows=500).frame
    index = index_histories(frame, "all")
    assert len(index.positives) == frame["label"].sum()
    assert (index.start <= index.end).all()
    assert index.start.shape == index.end.shape == (500,)


def test_rows_outside_every_split_are_seen_but_not_as_of_split() -> None:
    frame = pl.DataFrame(
        {
            "user": [1, 1],
            "item": [1, 2],
            "label": [1, 1],
            "timestamp": [1, 2],
            "split": pl.Series([None, "train"], dtype=pl.String),
            "order": [0, 1],
        }
    )
    target = np.array([1, 2])
    assert last_positives(index_histories(frame, "strictly-earlier"), target, 2).tolist() == [[0, 0], [0, 1]]
    assert last_positives(index_histories(frame, "as-of-split"), target, 2).tolist() == [[0, 0], [0, 0]]


def test_no_rows_no_positives_no_items() -> None:
    nothing = np.zeros(0, dtype=np.int64)
    empty = HistoryIndex(nothing.astype(np.int32), nothing, nothing, 0)
    assert last_positives(empty, nothing, 3).shape == (0, 3)
    one = HistoryIndex(nothing.astype(np.int32), np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64), 0)
    assert last_positives(one, np.array([4]), 3).tolist() == [[0, 0, 0]]
    some = HistoryIndex(np.array([7], dtype=np.int32), np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64), 0)
    assert last_positives(some, np.array([4]), 0).shape == (1, 0)
