"""Order, labels and dense ids."""

from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl
import pytest

from collm.data import columns
from collm.data.table import Recipe, build_table, keep_frequent, with_label, with_order
from collm.errors import DataError

RAW = pl.DataFrame(
    {
        "user": [9, 2, 9, 9],
        "item": [30, 30, 10, 20],
        "rating": [4.0, 3.5, 5.0, 1.0],
        "timestamp": [7, 1, 7, 3],
        "row": [0, 1, 2, 3],
    }
)


def test_order_is_by_time_then_source_row_within_a_user() -> None:
    assert with_order(RAW)["order"].to_list() == [1, 0, 2, 0]


@pytest.mark.parametrize("in_source_order", [True, False])
@pytest.mark.parametrize("step", [1, 1 << 45], ids=["seconds", "times too far apart for one key"])
def test_order_of_many_users_in_several_blocks(
    in_source_order: bool, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "_PIECE_ROWS", 20)
    generator = np.random.default_rng(0)
    row = np.arange(300) * 2 if in_source_order else generator.permutation(300)
    raw = pl.DataFrame(
        {
            "user": [f"u{number}" for number in generator.integers(0, 30, 300)],
            "timestamp": generator.integers(0, 40, 300) * step,
            "row": row,
        }
    )
    seen: dict[str, int] = {}
    expected = {}
    for user, _, source_row in sorted(raw.iter_rows()):
        expected[source_row] = seen.get(user, 0)
        seen[user] = expected[source_row] + 1
    assert with_order(raw)["order"].to_list() == [expected[each] for each in row]


def test_label_includes_the_bound() -> None:
    assert with_label(RAW, 4)["label"].to_list() == [1, 0, 1, 0]


def test_ids_are_dense_in_the_order_of_raw_ids_and_titles_follow() -> None:
    raw = with_order(with_label(RAW, 4)).with_columns(pl.lit("train").alias("split"))
    titles = pl.DataFrame({"item": [30, 10, 99], "title": [" Thirty ", "", "unused"]})
    table = build_table(raw, titles, Recipe(tie_rule="x"))
    assert table.user_ids == ["", "2", "9"]
    assert table.item_ids == ["", "10", "20", "30"]
    # Spaces stay: whether a prompt keeps them is the prompt's setting.
    assert table.titles == ["", "item 10", "item 20", " Thirty "]
    assert table.frame["user"].to_list() == [2, 1, 2, 2]
    assert table.frame["item"].to_list() == [3, 3, 1, 2]


# Item y appears in two rows, one of them of user c, who has too few.
FRAME = pl.DataFrame({"user": list("aaabbbc"), "item": list("xzyxzzy"), "row": range(7)})


def core(rows: list[tuple[int, int]], users: int, items: int, *, until_stable: bool) -> list[int]:
    kept = list(range(len(rows)))
    while True:
        of_user, of_item = Counter(rows[k][0] for k in kept), Counter(rows[k][1] for k in kept)
        left = [k for k in kept if of_user[rows[k][0]] >= users and of_item[rows[k][1]] >= items]
        if left == kept or not until_stable:
            return left
        kept = left


def test_one_pass_counts_the_frame_as_it_is_given() -> None:
    once = keep_frequent(FRAME, users=2, items=2, until_stable=False)
    assert once["row"].to_list() == [0, 1, 2, 3, 4, 5]
    stable = keep_frequent(FRAME, users=2, items=2, until_stable=True)
    assert stable["row"].to_list() == [0, 1, 3, 4, 5]


@pytest.mark.parametrize("until_stable", [True, False])
@pytest.mark.parametrize(("users", "items"), [(1, 5), (4, 0), (3, 3), (5, 8), (50, 50)])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_a_naive_loop(seed: int, users: int, items: int, until_stable: bool) -> None:
    generator = np.random.default_rng(seed)
    user, item = generator.zipf(1.6, 300) % 60, generator.zipf(1.4, 300) % 40
    frame = pl.DataFrame({"user": user, "item": item}).with_row_index("row")
    found = keep_frequent(frame, users=users, items=items, until_stable=until_stable)
    expected = core(list(zip(user, item, strict=True)), users, items, until_stable=until_stable)
    assert found["row"].to_list() == expected


def test_nothing_to_remove_is_no_copy_and_no_rows_are_fine() -> None:
    assert keep_frequent(FRAME, users=1, items=0, until_stable=True) is FRAME
    assert keep_frequent(FRAME, users=1, items=2, until_stable=True) is FRAME
    assert keep_frequent(FRAME.clear(), users=3, items=3, until_stable=True).height == 0


def test_a_negative_minimum_is_refused() -> None:
    with pytest.raises(DataError, match="at least -1 rows per user and 2 per item; both must be 0 or more"):
        keep_frequent(FRAME, users=-1, items=2, until_stable=True)
