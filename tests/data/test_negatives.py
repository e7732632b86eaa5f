"""Drawn negatives: every rule held against the rows one by one, and the shares of items against what is expected."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

import collm.data.negatives as negatives_module
from collm.contracts.data import SPLITS
from collm.data.negatives import Negatives, draw_negatives, notes_of
from collm.data.table import with_order
from collm.errors import DataError

Row = dict[str, Any]


def positives(seed: int = 0, *, n_users: int = 25, n_items: int = 200, n_rows: int = 400) -> pl.DataFrame:
    """Positives in time order, items that first come late, some rows outside every split."""
    generator = np.random.default_rng(seed)
    n_known = np.linspace(n_items // 2, n_items, n_rows).astype(int)
    raw = pl.DataFrame(
        {
            "user": [f"u{number}" for number in generator.integers(0, n_users, n_rows)],
            "item": [f"i{number}" for number in (generator.random(n_rows) ** 2 * n_known).astype(int)],
            "label": pl.Series([1] * n_rows, dtype=pl.Int8),
            "rating": pl.Series([5.0] * n_rows),
            "timestamp": np.sort(generator.integers(0, n_rows // 2, n_rows)),
            "split": [None] * 10 + ["train"] * (n_rows - 110) + ["valid"] * 50 + ["test"] * 50,
            "row": np.arange(n_rows) * 2 + 5,
        }
    ).unique(["user", "item"], keep="last", maintain_order=True)
    return with_order(raw)


def drawn(frame: pl.DataFrame, **settings: Any) -> Negatives:
    return draw_negatives(frame, **{"per_positive": 3, "by": "uniform", "seed": 0, **settings})


def of(found: Negatives, *, sampled: bool) -> list[Row]:
    return [row for row in found.frame.iter_rows(named=True) if row["sampled"] == sampled]


@pytest.mark.parametrize("by", ["uniform", "popularity"])
@pytest.mark.parametrize("per_positive", [1, 3])
def test_every_rule_row_by_row(by: str, per_positive: int) -> None:
    frame = positives()
    found = drawn(frame, by=by, per_positive=per_positive)
    own, negatives = of(found, sampled=False), of(found, sampled=True)
    assert [{name: row[name] for name in ("user", "item", "row", "label")} for row in own] == [
        {name: row[name] for name in ("user", "item", "row", "label")} for row in frame.iter_rows(named=True)
    ]
    in_splits = [row for row in own if row["split"] is not None]
    assert len(negatives) == per_positive * len(in_splits)
    assert {(row["label"], row["rating"]) for row in negatives} == {(0, None)}
    met = {(row["user"], row["item"]) for row in own}
    pairs = [(row["user"], row["item"]) for row in negatives]
    assert not met & set(pairs)
    assert len(set(pairs)) == len(pairs)
    known: dict[str, set[str]] = {}
    for place, split in enumerate(SPLITS):
        known[split] = {row["item"] for row in in_splits if row["split"] in SPLITS[: place + 1]}
    assert all(row["item"] in known[row["split"]] for row in negatives)
    wanted = Counter((row["user"], row["timestamp"], row["split"]) for row in in_splits for _ in range(per_positive))
    assert Counter((row["user"], row["timestamp"], row["split"]) for row in negatives) == wanted
    numbers = [row["row"] for row in negatives]
    assert numbers == list(range(max(row["row"] for row in own) + 1, numbers[-1] + 1))


def test_a_negative_stands_just_before_its_positive() -> None:
    found = drawn(positives(), per_positive=2)
    for user in {row["user"] for row in of(found, sampled=False)}:
        rows = list(found.frame.filter(pl.col("user") == user).sort("order").iter_rows(named=True))
        assert [row["order"] for row in rows] == list(range(len(rows)))
        kinds = "".join(str(row["label"]) for row in rows if row["split"] is not None)
        assert kinds == "001" * (len(kinds) // 3)
        assert [row["timestamp"] for row in rows] == sorted(row["timestamp"] for row in rows)


def test_the_draw_depends_on_the_seed_and_not_on_where_rows_lie() -> None:
    frame = positives()
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=3)
    assert drawn(shuffled).frame.equals(drawn(frame).frame)
    assert not drawn(frame, seed=1).frame.equals(drawn(frame).frame)


@pytest.mark.parametrize("rounds", [20, 0], ids=["repeated draws", "from a list of what is left"])
@pytest.mark.parametrize("by", ["uniform", "popularity"])
def test_shares_of_items(by: str, rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One new user each, who met one item: all others are drawn by weight. 4 items with 8, 4, 2 and 0 training rows."""
    monkeypatch.setattr(negatives_module, "_ROUNDS", rounds)
    n = 4000
    train = ["a"] * 8 + ["b"] * 4 + ["c"] * 2
    items = train + ["d"] * n
    frame = pl.DataFrame(
        {
            "user": [f"t{n}" for n in range(len(train))] + [f"v{n}" for n in range(n)],
            "item": items,
            "label": pl.Series([1] * len(items), dtype=pl.Int8),
            "rating": pl.Series([None] * len(items), dtype=pl.Float64),
            "timestamp": range(len(items)),
            "split": ["train"] * len(train) + ["valid"] * (n // 2) + ["test"] * (n // 2),
            "row": range(len(items)),
        }
    )
    found = drawn(with_order(frame), by=by, per_positive=1)
    counts = Counter(row["item"] for row in of(found, sampled=True) if row["user"].startswith("v"))
    weights = {"a": 8, "b": 4, "c": 2} if by == "popularity" else {"a": 1, "b": 1, "c": 1}
    for item, weight in weights.items():
        share = weight / sum(weights.values())
        assert abs(counts[item] / n - share) < 4 * (share * (1 - share) / n) ** 0.5
    assert counts["d"] == 0
    test = found.draws["test"]
    assert (test.positives, test.new_positives, test.new_drawn) == (n // 2, n // 2, 0)


def test_an_item_that_is_new_in_a_split_is_drawn_there_and_weighs_one_row() -> None:
    n = 3000
    items = ["a"] * 3 + ["new"] + ["other"] * n
    splits = ["train"] * 3 + ["valid"] * (n + 1)
    frame = pl.DataFrame(
        {
            "user": [f"t{n}" for n in range(4)] + [f"v{n}" for n in range(n)],
            "item": items,
            "label": pl.Series([1] * len(items), dtype=pl.Int8),
            "rating": pl.Series([None] * len(items), dtype=pl.Float64),
            "timestamp": range(len(items)),
            "split": splits,
            "row": range(len(items)),
        }
    )
    with pytest.raises(DataError, match="no item is left to draw in train"):
        drawn(with_order(frame), by="popularity", per_positive=1)
    more = pl.concat(
        [frame, frame.head(1).with_columns(item=pl.lit("b"), user=pl.lit("z"), row=pl.lit(9999, dtype=pl.Int64))]
    )
    found = drawn(with_order(more), by="popularity", per_positive=1)
    counts = Counter(row["item"] for row in of(found, sampled=True) if row["user"].startswith("v"))
    assert set(counts) == {"a", "b", "new"}
    for item, share in {"a": 0.6, "b": 0.2, "new": 0.2}.items():
        assert abs(counts[item] / n - share) < 4 * (share * (1 - share) / n) ** 0.5


def test_splits_of_one_user_have_alike_popular_negatives() -> None:
    """Items are drawn without repetition; were training drawn first, test would be left with rare ones."""
    frame = positives(n_users=6, n_items=80, n_rows=300).filter(pl.col("split").is_not_null())
    counts = Counter(frame.filter(pl.col("split") == "train")["item"].to_list())
    once = frame.filter(pl.col("item").is_in(list(counts)))
    means: dict[str, list[float]] = {"train": [], "test": []}
    for seed in range(40):
        for row in of(drawn(with_order(once.drop("order")), by="popularity", per_positive=1, seed=seed), sampled=True):
            if row["split"] in means:
                means[row["split"]].append(counts[row["item"]])
    train, test = np.array(means["train"]), np.array(means["test"])
    assert abs(train.mean() - test.mean()) < 4 * (train.var() / len(train) + test.var() / len(test)) ** 0.5


@pytest.mark.parametrize("by", ["uniform", "popularity"])
def test_a_user_without_candidates_gets_fewer(by: str) -> None:
    frame = positives(n_users=4, n_items=20, n_rows=150)
    found = drawn(frame, by=by, per_positive=50)
    candidates = {row["item"] for row in of(found, sampled=False) if row["split"] is not None}
    negatives = of(found, sampled=True)
    assert len({(row["user"], row["item"]) for row in negatives}) == len(negatives)
    for user in {row["user"] for row in negatives}:
        met = {row["item"] for row in of(found, sampled=False) if row["user"] == user}
        assert {row["item"] for row in negatives if row["user"] == user} == candidates - met
    counted = Counter(row["split"] for row in negatives)
    assert {split: draw.drawn for split, draw in found.draws.items()} == dict(counted)
    (said,) = [note for note in _notes(found) if "could not be drawn" in note]
    short = 50 * found.draws["test"].positives - counted["test"]
    assert f"test {short:,}" in said


def test_notes_say_rule_and_numbers() -> None:
    found = drawn(positives(), per_positive=1)
    rule, numbers, *early = _notes(found, per_positive=1)
    assert "for each positive 1 item among those" in rule
    assert "each alike, never an item of the user's own at any time" in rule
    draws = found.draws
    assert f"train {draws['train'].drawn:,} for {draws['train'].positives:,} positives" in numbers
    first: dict[str, int] = {}
    for row in of(found, sampled=False):
        first[row["item"]] = min(first.get(row["item"], row["timestamp"]), row["timestamp"])
    n_early = sum(row["timestamp"] < first[row["item"]] for row in of(found, sampled=True) if row["split"] == "train")
    assert n_early > 0
    assert f"train {n_early:,}" in early[0]
    assert len(_notes(found, has_times=False)) == 2
    none = {name: replace(draw, early=0) for name, draw in draws.items()}
    assert len(_notes(replace(found, draws=none))) == 2


def _notes(found: Negatives, **settings: Any) -> tuple[str, ...]:
    return notes_of(found, **{"per_positive": 50, "by": "uniform", "seed": 0, "has_times": True, **settings})
