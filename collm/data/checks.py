"""What every interaction table must hold before anything is computed from it. One function per rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import polars as pl

from collm.contracts.data import SPLITS, InteractionTable
from collm.errors import DataError

SCHEMA = {
    "user": pl.Int32,
    "item": pl.Int32,
    "label": pl.Int8,
    "rating": pl.Float32,
    "timestamp": pl.Int64,
    "split": pl.String,
    "row": pl.Int64,
    "order": pl.Int64,
}
_MAY_BE_NULL = ("rating", "split")


def check_table(table: InteractionTable) -> None:
    """Checks a table against its contract and its recipe's counts.

    Raises:
        DataError: With all problems found; a wrong count names both numbers.
    """
    problems = list(_columns(table))
    if not problems:
        problems = [problem for rule in _RULES for problem in rule(table)]
    if problems:
        raise DataError("dataset: " + "; ".join(problems))


def table_counts(table: InteractionTable) -> dict[str, int]:
    """Returns rows per split and the numbers of users and items of the whole table."""
    rows = dict(table.frame.group_by("split").len().iter_rows())
    counts: dict[str, int] = {name: int(rows.get(name, 0)) for name in SPLITS}
    return {**counts, "users": len(table.user_ids) - 1, "items": len(table.item_ids) - 1}


def _columns(table: InteractionTable) -> Iterator[str]:
    schema = table.frame.schema
    for name, dtype in SCHEMA.items():
        if schema.get(name) != dtype:
            yield f"column '{name}' is {schema.get(name, 'missing')}, expected {dtype}"
        elif name not in _MAY_BE_NULL and (n_null := table.frame[name].null_count()):
            yield f"column '{name}' lacks a value in {n_null} rows"


def _values(table: InteractionTable) -> Iterator[str]:
    frame = table.frame
    strange = frame["label"].unique().sort().to_list()
    if not set(strange) <= {0, 1}:
        yield f"column 'label' holds {strange[:5]}, allowed are 0 and 1"
    if n_bad := frame.filter(~pl.col("rating").is_finite()).height:
        yield f"column 'rating' is NaN or infinite in {n_bad} rows; unknown ratings must be null"
    names = set(frame["split"].drop_nulls().unique().to_list())
    if not names <= set(SPLITS):
        yield f"column 'split' holds {sorted(names - set(SPLITS))}, allowed are {', '.join(SPLITS)} or null"


def _rows(table: InteractionTable) -> Iterator[str]:
    frame = table.frame
    if n_twice := frame.height - frame["row"].n_unique():
        yield f"column 'row' repeats {n_twice} values; source rows must be unique"
    ordered = frame.select("user", "order", "timestamp").sort("user", "order")
    same_user = pl.col("user") == pl.col("user").shift()
    tied = ordered.filter(same_user & (pl.col("order") == pl.col("order").shift())).height
    backwards = ordered.filter(same_user & (pl.col("timestamp") < pl.col("timestamp").shift())).height
    if tied:
        yield f"column 'order' gives {tied} rows the place of another row of their user"
    if backwards:
        yield f"column 'order' contradicts 'timestamp' in {backwards} rows"


def _ids(table: InteractionTable) -> Iterator[str]:
    for name, raw in (("user", table.user_ids), ("item", table.item_ids)):
        dense, n = table.frame[name], len(raw) - 1
        if list(raw[:1]) != [""] or len(set(raw)) != len(raw):
            yield f"raw {name} ids must be unique, with '' first for the padding id 0"
        if dense.len() and (dense.min(), dense.max(), dense.n_unique()) != (1, n, n):
            found = f"{dense.min()}..{dense.max()} with {dense.n_unique()} different"
            yield f"{name} ids run {found}, expected 1..{n} without gaps"
    if len(table.titles) != len(table.item_ids) or list(table.titles[:1]) != [""]:
        yield f"there are {len(table.titles)} titles for {len(table.item_ids)} item ids; both start with ''"


def _splits(table: InteractionTable) -> Iterator[str]:
    counts = table_counts(table)
    for name in SPLITS:
        if not counts[name]:
            yield f"the {name} split is empty: choose another split rule or larger shares"
    classes = table.frame.filter(pl.col("split") == "train")["label"].unique().to_list()
    if counts["train"] and len(classes) < 2:
        yield f"all {counts['train']} training rows have the label {classes[0]}: look at the label rule"


def _expected(table: InteractionTable) -> Iterator[str]:
    counts = table_counts(table)
    for name, number in table.expected.items():
        if counts.get(name) != number:
            yield f"{name}: found {counts.get(name)}, the recipe expects {number}: not the known edition"


_RULES: tuple[Callable[[InteractionTable], Iterator[str]], ...] = (_values, _rows, _ids, _splits, _expected)
