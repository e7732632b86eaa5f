"""Liked and disliked items against a naive loop over all pairs of rows, and what must not change them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from small_tables import FixedSource

from collm.contracts.data import Limit
from collm.data.pairs import LATEST, PairHistories
from collm.data.past import Past, index_past, listed_past
from collm.data.prepare import prepare
from collm.data.prepared import PreparedData
from collm.errors import RunError

VISIBILITIES = ("all", "strictly-earlier", "as-of-split")
MAX_LIKED, MAX_DISLIKED = 3, 2
Row = dict[str, Any]
Entry = tuple[int, bool, int]


def seen(rows: list[Row], asked: Row, visibility: str) -> list[Entry]:
    """Everything that a row may see, oldest first: item, liked, time."""
    found = []
    for other in sorted((each for each in rows if each["user"] == asked["user"]), key=lambda each: each["order"]):
        if visibility == "all":
            visible = other["order"] < asked["order"]
        else:
            visible = other["timestamp"] < asked["timestamp"] and other["item"] != asked["item"]
        if visible and (visibility != "as-of-split" or other["split"] == "train") and not other.get("sampled"):
            found.append((other["item"], other["label"] == 1, other["timestamp"]))
    return found


def newest(entries: list[Entry]) -> list[Entry]:
    """Keeps the newest of either label in the order of both."""
    kept, left = [], {True: MAX_LIKED, False: MAX_DISLIKED}
    for entry in reversed(entries):
        if left[entry[1]]:
            left[entry[1]] -= 1
            kept.append(entry)
    return kept[::-1]


def lines(past: Past) -> list[list[Entry]]:
    """The past of each row as a list; it must be padded on the left alone."""
    found = []
    for items, liked, time in zip(past.items, past.liked, past.time, strict=True):
        n = int((items != 0).sum())
        assert (items[: len(items) - n] == 0).all()
        assert not liked[: len(items) - n].any()
        own = slice(len(items) - n, None)
        found.append(list(zip(items[own].tolist(), liked[own].tolist(), time[own].tolist(), strict=True)))
    return found


def read(
    frame: pl.DataFrame, visibility: Any, *, liked: int = MAX_LIKED, disliked: int = MAX_DISLIKED
) -> list[list[Entry]]:
    index = index_past(frame, visibility)
    target = frame["item"].to_numpy().astype(np.int64)
    return lines(index.read(np.arange(frame.height), target, max_liked=liked, max_disliked=disliked))


@pytest.mark.parametrize("visibility", VISIBILITIES)
@pytest.mark.parametrize(
    ("seed", "n_items", "n_times"), [(0, 3, 5), (1, 9, 40), (2, 50, 3), (3, 200, 1000), (4, 1, 200), (5, 5, 12)]
)
def test_equals_a_naive_loop(make_table: Any, visibility: Any, seed: int, n_items: int, n_times: int) -> None:
    frame = make_table(seed, n_items=n_items, n_times=n_times, n_rows=150).frame
    rows = frame.to_dicts()
    assert read(frame, visibility) == [newest(seen(rows, row, visibility)) for row in rows]


@pytest.mark.parametrize("visibility", VISIBILITIES)
@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_file_changes_nothing(make_table: Any, visibility: Any, seed: int) -> None:
    frame = make_table(seed, n_items=8, n_times=10, n_rows=120).frame
    before = dict(zip(frame["row"].to_list(), read(frame, visibility), strict=True))
    mixed = frame.sample(fraction=1.0, shuffle=True, seed=seed)
    assert dict(zip(mixed["row"].to_list(), read(mixed, visibility), strict=True)) == before


@pytest.mark.parametrize("visibility", ["strictly-earlier", "as-of-split"])
@pytest.mark.parametrize("seed", range(5))
def test_how_rows_of_one_second_are_ordered_is_unseen_in_it(make_table: Any, visibility: Any, seed: int) -> None:
    frame = make_table(seed, n_items=30, n_times=6, n_rows=150).frame
    early = frame.filter(pl.col("timestamp") <= 2)
    chosen = max((group for _, group in early.group_by("user", "timestamp", maintain_order=True)), key=len)
    turned = chosen.with_columns(order=chosen["order"].reverse()).select("row", order_new="order")
    mixed = frame.join(turned, on="row", how="left", maintain_order="left").with_columns(
        order=pl.coalesce("order_new", "order")
    )
    assert mixed["order"].to_list() != frame["order"].to_list()
    user, second = chosen.select("user", "timestamp").row(0)
    # Whole lists, so that what leaves first does not differ.
    before, after = (read(each, visibility, liked=150, disliked=150) for each in (frame, mixed))
    for ours, theirs, row in zip(before, after, frame.to_dicts(), strict=True):
        if row["user"] != user or row["timestamp"] <= second:
            assert ours == theirs
        assert sorted(ours) == sorted(theirs)
    if visibility == "strictly-earlier":
        assert before != after, "later rows see the second's rows in the order that the dataset gives them"


@pytest.mark.parametrize("visibility", VISIBILITIES)
@pytest.mark.parametrize("seed", range(5))
def test_a_later_row_decides_nothing_before_it(make_table: Any, visibility: Any, seed: int) -> None:
    frame = make_table(seed, n_items=8, n_times=10, n_rows=120).frame
    gone = frame.row(int(np.random.default_rng(seed).integers(frame.height)), named=True)
    without = frame.filter(pl.col("row") != gone["row"])
    before = dict(zip(frame["row"].to_list(), read(frame, visibility), strict=True))
    after = dict(zip(without["row"].to_list(), read(without, visibility), strict=True))
    earlier = frame.filter((pl.col("user") != gone["user"]) | (pl.col("order") < gone["order"]))["row"].to_list()
    assert {row: after[row] for row in earlier} == {row: before[row] for row in earlier}


@pytest.mark.parametrize("visibility", VISIBILITIES)
def test_drawn_negatives_are_no_dislikes(make_table: Any, visibility: Any) -> None:
    frame = make_table(3, n_items=9, n_times=20, n_rows=150).frame
    drawn = (frame["label"] == 0) & (frame["row"] % 2 == 0)
    frame = frame.with_columns(drawn.alias("sampled"))
    rows = frame.to_dicts()
    found = read(frame, visibility)
    assert found == [newest(seen(rows, row, visibility)) for row in rows]
    assert any(not liked for line in found for _, liked, _ in line)


def test_the_last_rated_of_both_lists(make_table: Any) -> None:
    frame = make_table(3, n_items=9, n_times=40, n_rows=150).frame
    index, rows = index_past(frame, "strictly-earlier"), frame.to_dicts()
    target = frame["item"].to_numpy().astype(np.int64)
    past = index.read(np.arange(frame.height), target, max_liked=4, max_disliked=4)
    assert lines(past.latest(4)) == [seen(rows, row, "strictly-earlier")[-4:] for row in rows]
    assert lines(past.latest(1)) == [seen(rows, row, "strictly-earlier")[-1:] for row in rows]
    assert lines(past.latest(99)) == lines(past)


def opened(make_table: Any, folder: Path, visibility: str, seed: int = 1) -> PreparedData:
    table = make_table(seed, n_items=9, n_times=30, n_rows=150)
    history: Any = SimpleNamespace(visibility=visibility)
    prepare(FixedSource(table), limit=Limit(), history=history, folder=folder)
    return PreparedData.open(folder)


@pytest.mark.parametrize("visibility", VISIBILITIES)
def test_prepared_rows_and_pairs_of_any_moment(make_table: Any, tmp_path: Path, visibility: str) -> None:
    data = opened(make_table, tmp_path, visibility)
    table = data.interactions().to_dicts()
    for split in ("train", "valid", "test"):
        rows = data.rows(split)
        past = data.past(rows, max_liked=MAX_LIKED, max_disliked=MAX_DISLIKED)
        assert lines(past) == [newest(seen(table, table[place], visibility)) for place in rows.index]
        own = data.history(rows, MAX_LIKED)
        liked = [[item for item, is_liked, _ in line if is_liked] for line in lines(past)]
        assert [[item for item in line if item] for line in own.tolist()] == liked
    generator = np.random.default_rng(2)
    user, item, time = (generator.integers(0, high, 200) for high in (data.n_users + 2, 10, 40))
    for moment in (time, None):
        view, rows = PairHistories(data).rows(user, item, moment)
        found = lines(view.past(rows, max_liked=MAX_LIKED, max_disliked=MAX_DISLIKED))
        for place, line in enumerate(found):
            now = LATEST if moment is None else int(time[place])
            asked = {"user": user[place], "item": item[place], "timestamp": now, "order": 0}
            # Of `all`, rows of the very second of a pair are unseen; its target stays.
            rule = "strictly-earlier" if visibility == "all" else visibility
            asked["item"] = -1 if visibility == "all" else asked["item"]
            assert line == newest(seen(table, asked, rule))


def test_a_past_that_was_read_is_given_again_whatever_the_target(make_table: Any, tmp_path: Path) -> None:
    data = opened(make_table, tmp_path, "strictly-earlier")
    rows = data.rows("train")
    past = data.past(rows, max_liked=MAX_LIKED, max_disliked=MAX_DISLIKED)
    again = listed_past(past, times=2)
    target = np.repeat(past.items[:, -1], 2)  # the newest item of each: it would be left out elsewhere
    found = again.read(np.arange(2 * len(rows)), target, max_liked=MAX_LIKED, max_disliked=MAX_DISLIKED)
    assert lines(found)[::2] == lines(found)[1::2] == lines(past)


def test_rows_with_histories_alone_have_no_past(make_table: Any, tmp_path: Path) -> None:
    data = opened(make_table, tmp_path, "all")
    view = data.with_histories(data.history_index(), data.titles)
    with pytest.raises(RunError, match="what their users disliked is not known"):
        view.past(data.rows("test"), max_liked=1, max_disliked=1)


def test_nothing_is_listed_of_nothing(make_table: Any) -> None:
    frame = make_table(0, n_rows=20).frame
    for given in (frame.clear(), frame.with_columns(label=pl.lit(1, dtype=pl.Int8))):
        found = index_past(given, "all").read(
            np.arange(given.height), given["item"].to_numpy().astype(np.int64), max_liked=0, max_disliked=2
        )
        assert found.items.shape == (given.height, 2)
        assert not found.items.any()
