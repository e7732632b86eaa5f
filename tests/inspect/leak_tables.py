"""Tables in which nothing leaks, and preparing them, for the tests of the leak checks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
from small_tables import FixedSource

from collm.contracts.data import InteractionTable, Limit, Visibility
from collm.data.checks import SCHEMA
from collm.data.prepare import prepare
from collm.data.prepared import PreparedData
from collm.data.table import with_order

N_USERS, N_ITEMS, N_TIMES = 3, 8, 8
SPLIT_OF = ["train"] * 6 + ["valid", "test"]
ALL: tuple[Visibility, ...] = ("all", "strictly-earlier", "as-of-split")


def clean_table() -> InteractionTable:
    """Three people meet eight films, each another film each hour, all splits one after the other in time.

    The last film of each user is another user's film of training, so every user and item is in training. Positives in
    training only: no history shows the evaluation period.
    """
    rows = [
        {
            "user": user + 1,
            "item": (user * 3 + time) % N_ITEMS + 1,
            "label": int(time < 6 and (user + time) % 3 > 0),
            "rating": 3.0,
            "timestamp": 1_000 * time + user,
            "split": SPLIT_OF[time],
            "row": user * N_TIMES + time,
            "order": time,
        }
        for user in range(N_USERS)
        for time in range(N_TIMES)
    ]
    return InteractionTable(
        frame=pl.DataFrame(
            rows,
            schema=SCHEMA,
        ),
        user_ids=["", *(f"u{n}" for n in range(1, N_USERS + 1))],
        item_ids=["", *(f"i{n}" for n in range(1, N_ITEMS + 1))],
        titles=["", *(f"Film {'ABCDEFGH'[n]}x (19{n}0)" for n in range(N_ITEMS))],
        tie_rule="no ties",
    )


def changed(table: InteractionTable, row: int, **values: Any) -> InteractionTable:
    """Returns the table with other values in one row, and the order that its times give."""
    columns = [
        pl.when(pl.col("row") == row).then(pl.lit(value)).otherwise(pl.col(name)).cast(pl.Int64).alias(name)
        if not isinstance(value, str)
        else pl.when(pl.col("row") == row).then(pl.lit(value)).otherwise(pl.col(name)).alias(name)
        for name, value in values.items()
    ]
    frame = table.frame.with_columns(columns).cast(table.frame.schema)
    return replace(table, frame=with_order(frame.drop("order")).select(table.frame.columns).cast(table.frame.schema))


def prepared(
    table: InteractionTable, folder: Path, *, visibility: Visibility = "all", limit: Limit | None = None
) -> PreparedData:
    history: Any = SimpleNamespace(visibility=visibility, max_items=10)
    prepare(FixedSource(table), limit=limit or Limit(), history=history, folder=folder)
    return PreparedData.open(folder)
