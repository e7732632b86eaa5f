"""Order, labels and dense ids."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from collm.data import columns
from collm.data.table import Recipe, build_table, with_label, with_order

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
