"""Filters that keep what is seen often enough."""

from __future__ import annotations

import numpy as np
import polars as pl

from collm.data.dense import count_ids, numbered
from collm.errors import DataError


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
