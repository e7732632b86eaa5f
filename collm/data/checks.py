"""What every interaction table must hold before anything is computed from it. One function per rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import polars as pl

from collm.contracts.data import SPLITS, InteractionTable
from collm.data.columns import as_series, count_ids, pieces, rows_by_user, user_blocks
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
_SPARE_IDS = 1 << 20


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
    if n_bad := int((~frame["rating"].is_finite()).sum()):
        yield f"column 'rating' is NaN or infinite in {n_bad} rows; unknown ratings must be null"
    names = set(frame["split"].drop_nulls().unique().to_list())
    if not names <= set(SPLITS):
        yield f"column 'split' holds {sorted(names - set(SPLITS))}, allowed are {', '.join(SPLITS)} or null"


def _rows(table: InteractionTable) -> Iterator[str]:
    frame = table.frame
    if n_twice := _repeated(frame["row"].to_numpy()):
        yield f"column 'row' repeats {n_twice} values; source rows must be unique"
    tied, backwards = _order_faults(frame)
    if tied:
        yield f"column 'order' gives {tied} rows the place of another row of their user"
    if backwards:
        yield f"column 'order' contradicts 'timestamp' in {backwards} rows"


def _repeated(row: np.ndarray[Any, Any]) -> int:
    """Returns how many rows have the number of another one; source order, the usual one, needs no sort."""
    if all((row[part][1:] > row[part][:-1]).all() for part in _overlapping(len(row))):
        return 0
    ordered = np.sort(row)
    return int((ordered[1:] == ordered[:-1]).sum())


def _overlapping(n_rows: int) -> Iterator[slice]:
    return (slice(part.start, part.stop + 1) for part in pieces(n_rows))


def _order_faults(frame: pl.DataFrame) -> tuple[int, int]:
    """Returns rows that share their order with another row of their user, and rows earlier than the one before."""
    user, order, time = (frame[name].to_numpy() for name in ("user", "order", "timestamp"))
    if not len(user) or not _may_be_dense(frame["user"]):
        return 0, 0  # such ids are reported by themselves
    counts = count_ids(user, int(user.max()) + 1)
    place = rows_by_user(user, order, counts)
    tied = backwards = 0
    for block in user_blocks(counts):
        rows = place[block.rows]
        who, nth, when = user[rows], order[rows], time[rows]
        same = who[1:] == who[:-1]
        tied += int((same & (nth[1:] == nth[:-1])).sum())
        backwards += int((same & (when[1:] < when[:-1])).sum())
    return tied, backwards


def _n_different(ids: pl.Series) -> int:
    if not _may_be_dense(ids):
        return int(ids.n_unique())
    values = ids.to_numpy()
    return int((count_ids(values, int(values.max()) + 1) > 0).sum())


def _may_be_dense(ids: pl.Series) -> bool:
    """Whether ids can be counted in a table: numbers far beyond the rows would fill the memory."""
    values = ids.to_numpy()
    return bool(int(values.min()) >= 0 and int(values.max()) < len(values) + _SPARE_IDS)


def _ids(table: InteractionTable) -> Iterator[str]:
    for name, raw in (("user", table.user_ids), ("item", table.item_ids)):
        dense, n = table.frame[name], len(raw) - 1
        if list(raw[:1]) != [""] or as_series(raw).n_unique() != len(raw):
            yield f"raw {name} ids must be unique, with '' first for the padding id 0"
        if dense.len() and (dense.min(), dense.max(), _n_different(dense)) != (1, n, n):
            found = f"{dense.min()}..{dense.max()} with {_n_different(dense)} different"
            yield f"{name} ids run {found}, expected 1..{n} without gaps"
    if len(table.titles) != len(table.item_ids) or list(table.titles[:1]) != [""]:
        yield f"there are {len(table.titles)} titles for {len(table.item_ids)} item ids; both start with ''"


def _attributes(table: InteractionTable) -> Iterator[str]:
    sides = (("user", table.user_attributes, table.user_ids), ("item", table.item_attributes, table.item_ids))
    for name, attributes, raw in sides:
        if attributes is None:
            continue
        if attributes.height != len(raw) or not attributes.width:
            shape = f"{attributes.height} rows of {attributes.width} columns"
            yield f"{name} attributes have {shape}, expected {len(raw)} rows, one per dense id, and a column or more"


def _splits(table: InteractionTable) -> Iterator[str]:
    counts = table_counts(table)
    for name in SPLITS:
        if not counts[name]:
            yield f"the {name} split is empty: choose another split rule or larger shares"
    classes = table.frame["label"].filter(table.frame["split"] == "train").unique().to_list()
    if counts["train"] and len(classes) < 2:
        yield f"all {counts['train']} training rows have the label {classes[0]}: look at the label rule"


def _expected(table: InteractionTable) -> Iterator[str]:
    counts = table_counts(table)
    for name, number in table.expected.items():
        if counts.get(name) != number:
            yield f"{name}: found {counts.get(name)}, the recipe expects {number}: not the known edition"


_RULES: tuple[Callable[[InteractionTable], Iterator[str]], ...] = (
    _values,
    _rows,
    _ids,
    _attributes,
    _splits,
    _expected,
)
