"""Every rule that a table must keep, broken once."""

from __future__ import annotations

import dataclasses
from typing import Any

import polars as pl
import pytest

from collm.data.checks import check_table, table_counts
from collm.errors import DataError

FIRST = pl.int_range(pl.len()) == 0


def first(name: str, value: Any) -> pl.Expr:
    return pl.when(FIRST).then(pl.lit(value)).otherwise(pl.col(name)).alias(name)


def test_a_sound_table_passes(make_table: Any) -> None:
    table = make_table()
    check_table(table)
    counts = table_counts(table)
    assert counts["train"] + counts["valid"] + counts["test"] == 200
    assert (counts["users"], counts["items"]) == (7, 9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pl.lit("x").alias("label"), "column 'label' is String, expected Int8"),
        (first("label", 2).cast(pl.Int8), r"column 'label' holds \[0, 1, 2\]"),
        (first("label", None), "column 'label' lacks a value in 1 rows"),
        (first("rating", float("nan")).cast(pl.Float32), "column 'rating' is NaN or infinite in 1 rows"),
        (first("split", "dev"), r"column 'split' holds \['dev'\]"),
        (pl.lit("train").alias("split"), "the valid split is empty.*the test split is empty"),
        (pl.lit(1, dtype=pl.Int8).alias("label"), "training rows have the label 1"),
        (pl.lit(5, dtype=pl.Int64).alias("row"), "column 'row' repeats 199 values"),
        (pl.lit(0, dtype=pl.Int64).alias("order"), "gives 193 rows the place of another row"),
        ((-pl.col("order")).alias("order"), "column 'order' contradicts 'timestamp'"),
        ((pl.col("user") * 2).cast(pl.Int32).alias("user"), r"user ids run 2..14 with 7 different, expected 1..7"),
        ((pl.col("item") - 1).cast(pl.Int32).alias("item"), r"item ids run 0..8 with 9 different, expected 1..9"),
    ],
)
def test_broken_tables(make_table: Any, change: pl.Expr, message: str) -> None:
    table = make_table()
    with pytest.raises(DataError, match=message):
        check_table(dataclasses.replace(table, frame=table.frame.with_columns(change)))


def test_a_missing_column(make_table: Any) -> None:
    table = make_table()
    with pytest.raises(DataError, match="column 'rating' is missing, expected Float32"):
        check_table(dataclasses.replace(table, frame=table.frame.drop("rating")))


def test_wrong_counts_name_both_numbers(make_table: Any) -> None:
    table = dataclasses.replace(make_table(), expected={"users": 7, "items": 12})
    with pytest.raises(DataError, match="items: found 9, the recipe expects 12"):
        check_table(table)


def test_titles_and_raw_ids(make_table: Any) -> None:
    table = make_table()
    with pytest.raises(DataError, match="9 titles for 10 item ids"):
        check_table(dataclasses.replace(table, titles=table.titles[:-1]))
    with pytest.raises(DataError, match="raw user ids must be unique"):
        check_table(dataclasses.replace(table, user_ids=["", *["a"] * 7]))
