"""A dataset in numbers, against the same numbers from polars and plain loops."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from leak_tables import clean_table, prepared

from collm.contracts.data import SPLITS, Limit
from collm.inspect.description import describe, quantile


@pytest.mark.parametrize("visibility", ["all", "as-of-split"])
def test_counts_are_those_of_the_table(make_table: Any, tmp_path: Path, visibility: Any) -> None:
    table = make_table(3, n_rows=300)
    table = replace(table, frame=table.frame.with_columns(pl.col("timestamp") + 1_000_000_000))
    data = prepared(table, tmp_path, visibility=visibility)
    found = describe(data, max_items=4, warm="at-least-3", cold="unseen")
    trained = table.frame.filter(pl.col("split") == "train")
    for split in SPLITS:
        part = table.frame.filter(pl.col("split") == split)
        plain = found.plain()["splits"][split]
        assert (plain["rows"], plain["users"], plain["items"]) == (
            part.height,
            part["user"].n_unique(),
            part["item"].n_unique(),
        )
        assert plain["positive_share"] == pytest.approx(part["label"].mean())
        first = datetime.fromtimestamp(part["timestamp"].min(), UTC)  # type: ignore[arg-type]
        assert plain["first"] == first.strftime("%Y-%m-%dT%H:%M:%SZ")
        lengths = (data.history(data.rows(split), 4) > 0).sum(axis=1)
        np.testing.assert_array_equal(found.splits[split].history_rows, np.bincount(lengths, minlength=5))
        assert plain["history_length"] == {
            f"p{part}": int(np.quantile(lengths, part / 100, method="inverted_cdf"))
            for part in (0, 25, 50, 75, 90, 100)
        }
        assert plain["empty_history_share"] == pytest.approx((lengths == 0).mean())
        counts = [trained[name].value_counts() for name in ("user", "item")]
        known = [dict(each.iter_rows()) for each in counts]
        warm = [
            min(known[0].get(user, 0), known[1].get(item, 0)) >= 3
            for user, item in part.select("user", "item").iter_rows()
        ]
        assert plain["warm_share"] == (None if split == "train" else pytest.approx(np.mean(warm)))
    pairs = table.frame.filter(pl.len().over("user", "timestamp") > 1)
    assert found.shared_second == pytest.approx(pairs.height / table.frame.height)
    assert sum(rows.sum() for rows in found.time_rows.values()) == table.frame["split"].is_not_null().sum()
    assert found.item_rows.tolist() == sorted(np.bincount(trained["item"], minlength=10)[1:].tolist(), reverse=True)


def test_limits_are_told_apart(tmp_path: Path) -> None:
    found = describe(prepared(clean_table(), tmp_path, limit=Limit(test=1)), max_items=0, warm="seen", cold="rest")
    assert (found.counts["test"], found.full_counts["test"], found.splits["test"].rows) == (1, 3, 1)
    assert found.plain()["splits"]["test"]["history_length"]["p100"] == 0


def test_line_numbers_in_place_of_times_are_no_dates(tmp_path: Path) -> None:
    found = describe(prepared(clean_table(), tmp_path), max_items=2, warm="seen", cold="rest")
    assert not found.dated
    plain = found.plain()
    assert (plain["dated"], plain["splits"]["train"]["first"], plain["splits"]["test"]["last"]) == (False, "0", "7002")


def test_quantiles() -> None:
    assert [quantile(np.array([2, 0, 1, 1]), part) for part in (0, 0.5, 0.51, 0.75, 1)] == [0, 0, 2, 2, 3]
    assert quantile(np.zeros(3, dtype=np.int64), 0.5) is None
