"""From raw rows (raw ids, ratings, times) to an `InteractionTable` with labels, order and dense ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from collm.contracts.data import InteractionTable
from collm.data.columns import Texts, count_ids, numbered, user_blocks
from collm.errors import DataError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Recipe:
    """What a dataset states about its table.

    Attributes:
        tie_rule: How rows with equal timestamps are ordered, in words.
        notes: Sentences that every results table must state.
        expected: Count name -> what it must be; empty where the files are not the known edition.
    """

    tie_rule: str
    notes: tuple[str, ...] = ()
    expected: Mapping[str, int] = field(default_factory=dict)


def with_order(raw: pl.DataFrame) -> pl.DataFrame:
    """Adds the place of each row in its user's history: by time, rows of the same second by source row.

    Args:
        raw: Columns `user`, `timestamp`, `row`.

    Returns:
        The frame with `order` int64, in the order of `raw`.
    """
    numbers, distinct = numbered(raw["user"])
    user = numbers.to_numpy()
    counts = count_ids(user, len(distinct) + 1)
    time, row = raw["timestamp"].to_numpy(), raw["row"].to_numpy()
    order = np.empty(raw.height, dtype=np.int64)
    for block in user_blocks(counts):
        mine = np.flatnonzero((user >= block.first) & (user <= block.last))
        by_time = _by_time(user[mine], time[mine], row[mine])
        sizes = counts[block.first : block.last + 1]
        order[mine[by_time]] = np.arange(len(mine)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return raw.with_columns(pl.Series("order", order))


def _by_time(user: Array, time: Array, row: Array) -> Array:
    """Returns the places of rows by user, time and source row, uint32 [n]."""
    first_user, first_time = int(user.min()), int(time.min())
    span = int(time.max()) - first_time + 1
    fits = (int(user.max()) - first_user + 1) * span <= np.iinfo(np.int64).max
    if fits and (row[1:] > row[:-1]).all():
        # One key and a sort that keeps the order of equals takes a third of the time of three keys.
        key = (user.astype(np.int64) - first_user) * span + (time - first_time)
        by_key = pl.DataFrame({"key": key}).select(pl.arg_sort_by("key", maintain_order=True))
    else:
        keys = pl.DataFrame({"user": user, "time": time, "row": row})
        by_key = keys.select(pl.arg_sort_by("user", "time", "row"))
    place: Array = by_key.to_series().to_numpy()
    return place


def with_label(raw: pl.DataFrame, positive_from: float) -> pl.DataFrame:
    """Adds `label` int8: 1 where `rating` is at least `positive_from`, else 0."""
    return raw.with_columns((pl.col("rating") >= positive_from).cast(pl.Int8).alias("label"))


@dataclass(frozen=True)
class Attributes:
    """What a source says of its users and items.

    Attributes:
        users: Column `user` (raw ids, each once) and attribute columns; None where it says nothing.
        items: Column `item` (raw ids, each once) and attribute columns; None where it says nothing.
    """

    users: pl.DataFrame | None = None
    items: pl.DataFrame | None = None


NO_ATTRIBUTES = Attributes()


def build_table(
    raw: pl.DataFrame, titles: pl.DataFrame, recipe: Recipe, attributes: Attributes = NO_ATTRIBUTES
) -> InteractionTable:
    """Gives users and items dense ids from 1, in the order of their raw ids.

    An item without a title is called `item <raw id>`: a prompt needs some name, and an invented one must not look real.

    Args:
        raw: Columns `user`, `item` (raw ids), `label`, `rating`, `timestamp`, `split`, `row`, `order`; further columns
            are kept. Rows outside every use (neither split nor history) are already gone.
        titles: Columns `item` (raw ids) and `title`; items without rows are ignored.
        recipe: What the dataset states.
        attributes: What the source says of users and items; of ids without rows it is ignored.

    Returns:
        The table, rows in the order of `raw`.
    """
    numbers, distinct = zip(*(numbered(raw[name]) for name in ("user", "item")), strict=True)
    users, items = distinct
    named = items.to_frame().join(titles.unique("item", keep="first"), on="item", how="left", maintain_order="left")
    # Spaces around a title stay: whether a prompt keeps them is the prompt's setting.
    is_blank = pl.col("title").str.strip_chars() == ""
    title = pl.coalesce(pl.when(~is_blank).then("title"), pl.format("item {}", "item"))
    frame = raw.with_columns(
        *numbers,
        pl.col("label").cast(pl.Int8),
        pl.col("rating").cast(pl.Float32),
        pl.col("timestamp").cast(pl.Int64),
        pl.col("row").cast(pl.Int64),
        pl.col("order").cast(pl.Int64),
    )
    return InteractionTable(
        frame=frame,
        user_ids=Texts.padded(users),
        item_ids=Texts.padded(items),
        titles=Texts.padded(named.select(title.alias("title"))["title"]),
        tie_rule=recipe.tie_rule,
        notes=recipe.notes,
        expected=recipe.expected,
        user_attributes=_by_dense_id(users, attributes.users),
        item_attributes=_by_dense_id(items, attributes.items),
    )


def _by_dense_id(ids: pl.Series, attributes: pl.DataFrame | None) -> pl.DataFrame | None:
    """Returns one row of attributes per dense id, null for padding and for ids that the source says nothing of."""
    if attributes is None:
        return None
    rows = ids.to_frame().join(attributes, on=ids.name, how="left", maintain_order="left").drop(ids.name)
    return pl.concat([rows.clear(1), rows])


def keep_frequent(frame: pl.DataFrame, *, users: int, items: int, until_stable: bool) -> pl.DataFrame:
    """Keeps the rows whose user and item have enough rows.

    Rows of users go and with them some rows of items, so that after one pass an item may have fewer rows than it needs.

    Args:
        frame: Columns `user` and `item`, raw or dense ids without nulls; further columns are kept.
        users: Rows that a user must have at least; 0 or 1 keeps all users.
        items: Rows that an item must have at least; 0 or 1 keeps all items.
        until_stable: False: one pass, both counts taken on `frame` as it is given. True: passes until all that are left
            have enough rows (the k-core).

    Returns:
        The rows that are left, in their order; `frame` itself where that is all of them.

    Raises:
        DataError: If a minimum is negative.
    """
    if users < 0 or items < 0:
        raise DataError(f"filter: at least {users} rows per user and {items} per item; both must be 0 or more")
    fewest = {name: least for name, least in (("user", users), ("item", items)) if least > 1}
    columns = {name: numbered(frame[name]) for name in fewest}
    ids = {name: numbers.to_numpy() for name, (numbers, _) in columns.items()}
    kept, n_kept = np.ones(frame.height, dtype=bool), frame.height
    while True:
        frequent = {
            name: count_ids(ids[name], len(distinct) + 1, where=kept) >= fewest[name]
            for name, (_, distinct) in columns.items()
        }
        for name, enough in frequent.items():
            kept &= enough[ids[name]]
        n_before, n_kept = n_kept, int(kept.sum())
        if n_kept == n_before or not until_stable:
            return frame if n_kept == frame.height else frame.filter(pl.Series(kept))
