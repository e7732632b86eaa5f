"""From raw rows (raw ids, ratings, times) to an `InteractionTable` with labels, order and dense ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from collm.contracts.data import InteractionTable


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
    place = raw.select(pl.arg_sort_by("user", "timestamp", "row")).to_series()
    ordered = raw.select("user")[place].select(
        (pl.int_range(pl.len()).over("user")).alias("order"), place.alias("place")
    )
    return raw.with_columns(ordered.sort("place")["order"].cast(pl.Int64))


def with_label(raw: pl.DataFrame, positive_from: float) -> pl.DataFrame:
    """Adds `label` int8: 1 where `rating` is at least `positive_from`, else 0."""
    return raw.with_columns((pl.col("rating") >= positive_from).cast(pl.Int8).alias("label"))


def build_table(raw: pl.DataFrame, titles: pl.DataFrame, recipe: Recipe) -> InteractionTable:
    """Gives users and items dense ids from 1, in the order of their raw ids.

    An item without a title is called `item <raw id>`: a prompt needs some name, and an invented one must not look real.

    Args:
        raw: Columns `user`, `item` (raw ids), `label`, `rating`, `timestamp`, `split`, `row`, `order`; further columns
            are kept. Rows outside every use (neither split nor history) are already gone.
        titles: Columns `item` (raw ids) and `title`; items without rows are ignored.
        recipe: What the dataset states.

    Returns:
        The table, rows in the order of `raw`.
    """
    users, items = (raw.select(pl.col(name).unique().sort()) for name in ("user", "item"))
    named = items.join(titles.unique("item", keep="first"), on="item", how="left", maintain_order="left")
    title = pl.coalesce(pl.col("title").str.strip_chars().replace("", None), pl.format("item {}", "item"))
    frame = raw.with_columns(
        pl.col("user").rank("dense").cast(pl.Int32),
        pl.col("item").rank("dense").cast(pl.Int32),
        pl.col("label").cast(pl.Int8),
        pl.col("rating").cast(pl.Float32),
        pl.col("timestamp").cast(pl.Int64),
        pl.col("row").cast(pl.Int64),
        pl.col("order").cast(pl.Int64),
    )
    return InteractionTable(
        frame=frame,
        user_ids=["", *users["user"].cast(pl.String).to_list()],
        item_ids=["", *items["item"].cast(pl.String).to_list()],
        titles=["", *named.select(title.alias("title"))["title"].to_list()],
        tie_rule=recipe.tie_rule,
        notes=recipe.notes,
        expected=recipe.expected,
    )
