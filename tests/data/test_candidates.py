"""Questions and candidates of `evaluate.ranking` against a search through all rows, user by user."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import numpy as np
import polars as pl
import pytest

from collm.contracts.data import SAMPLED
from collm.data.candidates import ItemLists, Questions, ask, draw_candidates, listed_candidates, met_before, popularity
from collm.data.prepared import PreparedData
from collm.errors import DataError

N_USERS, N_ITEMS = 12, 25


class Table:
    """As much of a prepared dataset as candidates need."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame, self.n_items = frame, N_ITEMS
        self.user_ids = ["", *(f"u{n}" for n in range(1, N_USERS + 1))]
        self.item_train_rows = np.bincount(frame.filter(pl.col("split") == "train")["item"], minlength=N_ITEMS + 1)

    def interactions(self) -> pl.DataFrame:
        return self._frame

    def column(self, name: str) -> np.ndarray[Any, Any]:
        return self._frame[name].to_numpy()

    def rows(self, split: str) -> Any:
        index = np.flatnonzero((self._frame["split"] == split).to_numpy())
        part = self._frame[index]
        names = ("user", "item", "label", "timestamp")
        return SimpleNamespace(**{name: part[name].to_numpy() for name in names}, index=index)

    def item_table(self) -> pl.DataFrame:
        return pl.DataFrame({"item": range(N_ITEMS + 1), "id": ["", *(f"i{n}" for n in range(1, N_ITEMS + 1))]})


def frame(seed: int = 0, n: int = 400) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    rows = pl.DataFrame(
        {
            "user": draw.integers(1, N_USERS + 1, n),
            "item": draw.integers(1, N_ITEMS + 1, n),
            "label": draw.integers(0, 2, n),
            "timestamp": draw.integers(0, 60, n),
            "split": draw.choice(["train", "valid", "test"], n, p=[0.6, 0.2, 0.2]),
        }
    )
    return rows.sort("user", "timestamp", maintain_order=True).with_columns(order=pl.int_range(pl.len()).over("user"))


def table(rows: pl.DataFrame | None = None) -> PreparedData:
    return cast(PreparedData, Table(frame() if rows is None else rows))


def plain_questions(rows: pl.DataFrame, which: str, *, exclude: bool) -> dict[int, tuple[int, set[int], set[int]]]:
    """User -> moment, positives, items left out, written out."""
    found = {}
    for user in range(1, N_USERS + 1):
        own = [row for row in rows.iter_rows(named=True) if row["user"] == user]
        liked = [row for row in own if row["split"] == "test" and row["label"] == 1]
        if which == "last":
            liked = liked[-1:]
        if not liked:
            continue
        moment = min(row["timestamp"] for row in liked)
        met = {row["item"] for row in own if row["split"] in ("train", "valid") or row["timestamp"] < moment}
        positives = {row["item"] for row in liked} - (met if exclude else set())
        if positives:
            found[user] = moment, positives, met if exclude else set()
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("which", ["all", "last"])
@pytest.mark.parametrize("exclude", [True, False])
def test_questions_are_those_of_a_search(seed: int, which: Literal["all", "last"], exclude: bool) -> None:
    rows = frame(seed)
    found = ask(table(rows), "test", which=which, leave_out_seen=exclude)
    expected = plain_questions(rows, which, exclude=exclude)
    assert found.user.tolist() == list(expected)
    for place, (moment, positives, met) in enumerate(expected.values()):
        assert found.moment[place] == moment
        assert set(found.positives[place].tolist()) == positives
        assert set(found.left_out[place].tolist()) == met
    all_users = {row["user"] for row in rows.filter(pl.col("split") == "test").iter_rows(named=True)}
    assert found.n_without == len(all_users) - len(expected)
    if exclude:
        every = plain_questions(rows, which, exclude=False)
        kept = sum(len(positives) for _, positives, _ in expected.values())
        assert found.n_repeats == sum(len(positives) for _, positives, _ in every.values()) - kept


def test_fewer_users_are_a_subset_and_their_questions_the_same() -> None:
    whole = ask(table(), "test")
    some, fewer = (ask(table(), "test", n_users=n, seed=3) for n in (8, 4))
    assert set(fewer.user) < set(some.user) <= set(whole.user)
    assert len(some) <= 8
    for place, user in enumerate(fewer.user):
        at = int(np.flatnonzero(whole.user == user)[0])
        assert fewer.positives[place].tolist() == whole.positives[at].tolist()
    assert set(ask(table(), "test", n_users=4, seed=4).user) != set(fewer.user)


def test_a_split_without_positives_is_refused() -> None:
    rows = frame().with_columns(label=pl.lit(0))
    with pytest.raises(DataError, match="the test split has no row with label 1"):
        ask(table(rows), "test")
    rows = frame().filter(pl.col("split") == "test").with_columns(label=pl.lit(1))
    both = pl.concat([rows, rows.with_columns(split=pl.lit("train"), timestamp=pl.lit(0, dtype=pl.Int64))])
    with pytest.raises(DataError, match="have met every positive before; set exclude: nothing"):
        ask(table(both), "test")


def test_drawn_negatives_were_not_met() -> None:
    rows = frame().with_columns(pl.lit(True).alias(SAMPLED))
    found = met_before(table(rows), np.array([1, 2]), np.array([10**6, 10**6]))
    assert [len(found[place]) for place in (0, 1)] == [0, 0]


def questions(n_lists: int = 300, n_left_out: int = 5) -> Questions:
    """Many questions of one user each, positives and items left out drawn at random."""
    draw = np.random.default_rng(1)
    orders = [draw.permutation(N_ITEMS) + 1 for _ in range(n_lists)]
    return Questions(
        user=np.arange(n_lists) % N_USERS + 1,
        moment=np.zeros(n_lists, dtype=np.int64),
        positives=ItemLists.of([np.sort(each[:2]) for each in orders]),
        left_out=ItemLists.of([np.sort(each[2 : 2 + n_left_out]) for each in orders]),
    )


@pytest.mark.parametrize("by", ["uniform", "popularity"])
def test_drawn_candidates_hold_the_positives_and_nothing_left_out(by: Literal["uniform", "popularity"]) -> None:
    asked = questions()
    lists = draw_candidates(table(), asked, n=6, by=by, seed=0)
    for place in range(len(asked)):
        items = set(lists[place].tolist())
        assert len(lists[place]) == len(items) == 8
        assert items >= set(asked.positives[place].tolist())
        assert not items & set(asked.left_out[place].tolist())
    every = draw_candidates(table(), questions(3), n=1000, by="uniform", seed=0)
    assert [len(every[place]) for place in range(3)] == [N_ITEMS - 5] * 3


def test_popular_items_are_drawn_in_proportion() -> None:
    draw = np.random.default_rng(0)
    n = 3000
    asked = Questions(
        user=draw.permutation(n) + 1,
        moment=np.zeros(n, dtype=np.int64),
        positives=ItemLists.of([np.array([1])] * n),
        left_out=ItemLists.of([np.array([2])] * n),
    )
    data = cast(Any, table())
    data.user_ids = [str(number) for number in range(n + 1)]
    data.item_train_rows = np.arange(N_ITEMS + 1)
    data.item_train_rows[5] = 0
    lists = draw_candidates(data, asked, n=1, by="popularity", seed=0)
    drawn = np.bincount(lists.items[lists.items != 1], minlength=N_ITEMS + 1)
    weight = data.item_train_rows.astype(float)
    weight[[1, 2]] = 0
    expected = n * weight / weight.sum()
    assert drawn[5] == drawn[2] == 0
    assert (np.abs(drawn - expected) <= 4.5 * np.sqrt(np.maximum(expected, 1))).all()


def test_a_draw_depends_on_the_seed_and_the_user_alone() -> None:
    asked = questions(24)
    part = Questions(asked.user[5:9], asked.moment[5:9], asked.positives.part(5, 9), asked.left_out.part(5, 9))
    whole = draw_candidates(table(), asked, n=6, by="uniform", seed=7)
    some = draw_candidates(table(), part, n=6, by="uniform", seed=7)
    assert [some[place].tolist() for place in range(4)] == [whole[place].tolist() for place in range(5, 9)]
    assert draw_candidates(table(), asked, n=6, by="uniform", seed=8).items.tolist() != whole.items.tolist()


def test_candidates_of_a_file_are_counted_where_they_cannot_be_used(tmp_path: Path) -> None:
    asked = Questions(
        user=np.array([1, 2]),
        moment=np.zeros(2, dtype=np.int64),
        positives=ItemLists.of([np.array([3]), np.array([4])]),
        left_out=ItemLists.of([np.array([9]), np.array([], dtype=np.int64)]),
    )
    path = tmp_path / "candidates.csv"
    path.write_text("user,item\nu1,i3\nu1,i5\nu1,i9\nu1,nothing\nu2,i7\nu2,i7\nu99,i1\n", encoding="utf-8")
    lists, notes = listed_candidates(table(), asked, path)
    assert [lists[place].tolist() for place in (0, 1)] == [[3, 5], [4, 7]]
    assert notes == (
        "Ranking, candidates.csv: 1 candidates are not items of the dataset.",
        "Ranking, candidates.csv: 1 candidates were met by their user before.",
        "Ranking, candidates.csv: 1 positives were not listed and are added.",
    )
    pl.read_csv(path, infer_schema=False).write_parquet(tmp_path / "candidates.parquet")
    assert listed_candidates(table(), asked, tmp_path / "candidates.parquet")[0].items.tolist() == lists.items.tolist()
    path.write_text("user,item\nu1,i3\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"no known candidate for 1 of 2 users, e\.g\. user u2"):
        listed_candidates(table(), asked, path)
    path.write_text("user,film\nu1,i3\n", encoding="utf-8")
    with pytest.raises(DataError, match="lacks the columns item; it has user, film"):
        listed_candidates(table(), asked, path)
    pl.DataFrame({"user": [1.0], "item": [2]}).write_parquet(tmp_path / "float.parquet")
    with pytest.raises(DataError, match="column user holds Float64; ids must be text or whole numbers"):
        listed_candidates(table(), asked, tmp_path / "float.parquet")


def test_popularity_counts_positives_of_training() -> None:
    rows = frame()
    counts = popularity(table(rows))
    for item in range(1, N_ITEMS + 1):
        own = rows.filter((pl.col("item") == item) & (pl.col("split") == "train") & (pl.col("label") == 1))
        assert counts[item] == own.height
