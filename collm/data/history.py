"""Histories: the positives that a row may see, kept as one flat array per dataset and two offsets per row.

Disliked items (label 0) are found by the same rules (`collm.data.past`).

Visibility (facts 8 and 11):
- `all`: every positive before the row in its user's order, evaluation period and same second included.
- `strictly-earlier`: positives whose timestamp is smaller than the row's.
- `as-of-split`: the same, and from the training split only.

The row itself is never in its own history. Under the last two the target item is left out as well where the user had
rated it before (a re-rating); under `all` such a rating stays, as in the published histories (fact 25).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from collm.contracts.data import Visibility
from collm.data.columns import count_ids, group_starts, pieces, rows_by_user, user_blocks

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

    def of_rows(self, rows: Array) -> HistoryIndex:
        """Returns where the histories of int64 [n] rows lie, as rows 0 to n - 1."""
        return HistoryIndex(self.positives, self.start[rows], self.end[rows], self.repeats)


def index_histories(frame: pl.DataFrame, visibility: Visibility, *, label: int = 1) -> HistoryIndex:
    """Finds each row's history, users block by block: about 25 bytes a row beside `frame`, in time linear in its rows.

    Args:
        frame: Columns `user` (0 or more), `item`, `label`, `timestamp`, `split`, `order`; `order` agrees with time.
        visibility: Which earlier positives a row sees.
        label: The rows that are seen; `positives` below stands for those of label 0 where it is 0.

    Returns:
        Offsets in the row order of `frame`.
    """
    n = frame.height
    user, item, time = (frame[name].to_numpy() for name in ("user", "item", "timestamp"))
    visible = visible_rows(frame, visibility, label=label)
    counts = count_ids(user, int(user.max()) + 1 if n else 0)
    place = rows_by_user(user, frame["order"].to_numpy(), counts)
    start, end = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    positives = np.empty(int(visible.sum()), dtype=np.int32)
    n_before, repeats = 0, 0
    for block in user_blocks(counts):
        rows = place[block.rows]
        who, what, seen = user[rows], item[rows], visible[rows]
        before = n_before + np.cumsum(seen) - seen  # visible positives before each row, over all users
        start[rows] = before[group_starts(who)]
        end[rows] = before if visibility == "all" else before[group_starts(who, time[rows])]
        new = what[seen]
        positives[n_before : n_before + len(new)] = new
        n_before += len(new)
        if visibility != "all":
            repeats = max(repeats, _most_repeats(who, what, seen))
    return HistoryIndex(positives, start, end, repeats)


def visible_rows(frame: pl.DataFrame, visibility: Visibility, *, label: int = 1) -> Array:
    """Returns bool [n_rows]: rows of a label that later rows may see."""
    visible: Array = (frame["label"] == label).to_numpy()
    if visibility == "as-of-split":
        visible = visible & (frame["split"] == "train").fill_null(False).to_numpy()
    return visible


def last_positives(index: HistoryIndex, target: Array, max_items: int) -> Array:
    """Reads the newest positives of rows.

    Args:
        index: Offsets of these rows.
        target: int64 [n_rows] target items.
        max_items: Items per history at most, 0 or more.

    Returns:
        int64 [n_rows, max_items] item ids, oldest first, left-padded with 0.
    """
    places = last_places(index, target, max_items)
    if not len(index.positives):
        return np.zeros_like(places)
    return np.where(places < 0, 0, index.positives[places]).astype(np.int64)


def last_places(index: HistoryIndex, target: Array, max_items: int) -> Array:
    """Finds the newest positives of rows in the flat array; arguments as in `last_positives`.

    Returns:
        int64 [n_rows, max_items] places in `index.positives`, oldest first, left-padded with -1.
    """
    found = np.full((len(target), max_items), -1, dtype=np.int64)
    if not len(index.positives) or not max_items:
        return found
    for part in pieces(len(target)):
        _read(index, np.arange(part.start, part.stop), target, found)
    return found


def listed_histories(histories: Array, *, times: int = 1) -> HistoryIndex:
    """Returns an index that gives histories as they were read, whatever the target items are.

    Args:
        histories: int64 [n, length] item ids, left-padded with 0, as `last_positives` returns them.
        times: How many rows in succession have each history.

    Returns:
        Offsets of n * times rows.
    """
    counts = (histories != 0).sum(axis=1)
    end = np.cumsum(counts)
    return HistoryIndex(
        positives=histories[histories != 0].astype(np.int32),
        start=np.repeat(end - counts, times),
        end=np.repeat(end, times),
        repeats=0,
    )


def _read(index: HistoryIndex, rows: Array, target: Array, found: Array) -> None:
    """Fills `found` for some rows: reads further back for those alone whose newest positives were mostly their target.

    Args:
        index: Offsets.
        rows: int64 [n] rows to read.
        target: int64 [n_rows] target items.
        found: int64 [n_rows, max_items], -1 where `rows` are.
    """
    max_items = found.shape[1]
    width, widest = max_items, max_items + index.repeats
    while True:
        places = index.end[rows, None] + np.arange(-width, 0)  # [n, width]
        outside = places < index.start[rows, None]
        places[outside] = -1
        if index.repeats:
            places[index.positives[places] == target[rows, None]] = -1
            places = np.take_along_axis(places, np.argsort(places >= 0, axis=1, kind="stable"), axis=1)
        found[rows] = places[:, width - max_items :]
        short = ~outside[:, 0] & (found[rows, 0] < 0)
        if width == widest or not short.any():
            return
        rows, width = rows[short], min(2 * width, widest)


def _most_repeats(user: Array, item: Array, visible: Array) -> int:
    """Returns the most visible positives of any (user, item) pair that is in more than one row, 0 if none does."""
    if not len(user):
        return 0
    pair = user.astype(np.int64) * (int(item.max()) + 1) + item
    by_pair = (
        pl.DataFrame({"pair": pair, "visible": visible})
        .group_by("pair")
        .agg(pl.len().alias("n"), pl.col("visible").sum())
    )
    return int(by_pair.filter(pl.col("n") > 1)["visible"].max() or 0)
