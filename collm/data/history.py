"""Histories: the positives that a row may see, kept as one flat array per dataset and two offsets per row.

Visibility (facts 8 and 11):
- `all`: every positive before the row in its user's order, evaluation period and same second included.
- `strictly-earlier`: positives whose timestamp is smaller than the row's.
- `as-of-split`: likewise, and from the training split only.

The row itself is never in its own history. Under the last two the target item is left out as well where the user had
rated it before (a re-rating); under `all` such a rating stays, as in the published histories (fact 25).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from collm.contracts.data import Visibility

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class HistoryIndex:
    """Where each row's history lies.

    Attributes:
        positives: int32 [n_positives] item ids, ordered by user and then by the user's order.
        start: int64 [n_rows] first place in `positives` of the row's user.
        end: int64 [n_rows] place after the last positive that the row may see.
        repeats: Most visible positives that one row has of its own target item; 0 where targets need not be left out.
    """

    positives: Array
    start: Array
    end: Array
    repeats: int


def index_histories(frame: pl.DataFrame, visibility: Visibility) -> HistoryIndex:
    """Finds each row's history in O(rows) memory.

    Args:
        frame: Columns `user`, `item`, `label`, `timestamp`, `split`, `order`; `order` agrees with time.
        visibility: Which earlier positives a row sees.

    Returns:
        Offsets in the row order of `frame`.
    """
    place = frame.select(pl.arg_sort_by("user", "order")).to_series().to_numpy()
    user, item, label, time = (frame[name].to_numpy()[place] for name in ("user", "item", "label", "timestamp"))
    visible = label == 1
    if visibility == "as-of-split":
        visible &= (frame["split"] == "train").fill_null(False).to_numpy()[place]
    before = np.cumsum(visible) - visible  # visible positives before each row, over all users
    first_of_user = _group_starts(user)
    seen_from = np.arange(len(user)) if visibility == "all" else _group_starts(user, time)
    start, end = np.empty(len(user), dtype=np.int64), np.empty(len(user), dtype=np.int64)
    start[place] = before[first_of_user]
    end[place] = before[seen_from]
    repeats = 0 if visibility == "all" else _most_repeats(user, item, visible)
    return HistoryIndex(item[visible].astype(np.int32), start, end, repeats)


def last_positives(index: HistoryIndex, target: Array, max_items: int) -> Array:
    """Reads the newest positives of rows.

    Args:
        index: Offsets of these rows.
        target: int64 [n_rows] target items.
        max_items: Items per history at most, 0 or more.

    Returns:
        int64 [n_rows, max_items] item ids, oldest first, left-padded with 0.
    """
    width = max_items + index.repeats
    places = index.end[:, None] + np.arange(-width, 0)  # [n_rows, width]
    outside = places < index.start[:, None]
    if not len(index.positives):
        return np.zeros((len(target), max_items), dtype=np.int64)
    items = index.positives[np.where(outside, 0, places)].astype(np.int64)
    items[outside] = 0
    if index.repeats:
        items[items == target[:, None]] = 0
        items = np.take_along_axis(items, np.argsort(items != 0, axis=1, kind="stable"), axis=1)
    return items[:, width - max_items :]


def _group_starts(*keys: Array) -> Array:
    """Returns, for rows sorted by the keys, the place of the first row of each row's group, int64 [n_rows]."""
    n = len(keys[0])
    is_first = np.zeros(n, dtype=bool)
    is_first[:1] = True
    for key in keys:
        is_first[1:] |= key[1:] != key[:-1]
    return np.maximum.accumulate(np.where(is_first, np.arange(n), 0))


def _most_repeats(user: Array, item: Array, visible: Array) -> int:
    """Returns the most visible positives of any (user, item) pair that stands in more than one row, 0 if none does."""
    if not len(user):
        return 0
    pair = user.astype(np.int64) * (int(item.max()) + 1) + item
    by_pair = (
        pl.DataFrame({"pair": pair, "visible": visible})
        .group_by("pair")
        .agg(pl.len().alias("n"), pl.col("visible").sum())
    )
    return int(by_pair.filter(pl.col("n") > 1)["visible"].max() or 0)
