"""What rows may see of the past with both labels: liked and disliked items in the order of time.

Disliked items are the rows with label 0, found as histories are (`collm.data.history`): same visibility, target left
out, rows of the same second unseen. Rows that the dataset drew as negatives never happened, so they are not dislikes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from collm.contracts.data import SAMPLED, Visibility
from collm.data.columns import count_ids, rows_by_user
from collm.data.history import HistoryIndex, index_histories, last_places, visible_rows
from collm.errors import DataError

Array = np.ndarray[Any, Any]
COLUMNS = ("user", "item", "label", "timestamp", "split", "order")


@dataclass(frozen=True)
class Past:
    """Items that rows see, of both labels in one order.

    Attributes:
        items: int64 [n, length] item ids, oldest first, left-padded with 0.
        liked: bool [n, length]; False where there is no item.
        time: int64 [n, length] when each was rated, in the dataset's seconds; 0 where there is no item.
    """

    items: Array
    liked: Array
    time: Array

    def latest(self, n: int) -> Past:
        """Returns the newest n items of either label, n > 0."""
        return Past(self.items[:, -n:], self.liked[:, -n:], self.time[:, -n:])


@dataclass(frozen=True)
class TimedIndex:
    """Where the items of one label lie, and when each was rated.

    Attributes:
        index: Offsets; `positives` are the items of this label, whichever it is.
        time: int64 [n_positives] seconds.
        order: int64 [n_positives] place among all rows of the user.
    """

    index: HistoryIndex
    time: Array
    order: Array

    def of_rows(self, rows: Array) -> TimedIndex:
        """Returns the same for int64 [n] rows, as rows 0 to n - 1."""
        return TimedIndex(self.index.of_rows(rows), self.time, self.order)

    def newest(self, target: Array, max_items: int) -> tuple[Array, Array, Array]:
        """Returns int64 [n, max_items] item, time and order of the newest ones; 0, 0 and -1 where there is none."""
        places = last_places(self.index, target, max_items)
        if not len(self.index.positives):
            return np.zeros_like(places), np.zeros_like(places), places
        absent = places < 0
        found = (self.index.positives[places], self.time[places], self.order[places])
        item, time, order = (each.astype(np.int64) for each in found)
        item[absent], time[absent], order[absent] = 0, 0, -1
        return item, time, order


@dataclass(frozen=True)
class PastIndex:
    """Where liked and disliked items of rows lie."""

    liked: TimedIndex
    disliked: TimedIndex

    def read(self, rows: Array, target: Array, *, max_liked: int, max_disliked: int) -> Past:
        """Reads the newest items of either label.

        Args:
            rows: int64 [n] rows.
            target: int64 [n] target items.
            max_liked: Liked items per row at most, 0 or more.
            max_disliked: Disliked ones.
        """
        sides = [
            each.of_rows(rows).newest(target, most)
            for each, most in ((self.liked, max_liked), (self.disliked, max_disliked))
        ]
        item, time, order = (np.concatenate(both, axis=1) for both in zip(*sides, strict=True))
        liked = np.zeros(item.shape, dtype=bool)
        liked[:, :max_liked] = True
        place = np.argsort(order, axis=1, kind="stable")
        item, time, liked = (np.take_along_axis(each, place, axis=1) for each in (item, time, liked))
        return Past(item, liked & (item != 0), time)


def seen_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """Returns the columns of a table that decide the past; rows that were drawn as negatives have label -1."""
    if SAMPLED not in frame.columns:
        return frame.select(COLUMNS)
    label = pl.when(pl.col(SAMPLED)).then(-1).otherwise(pl.col("label")).cast(pl.Int8)
    return frame.with_columns(label.alias("label")).select(COLUMNS)


def index_past(frame: pl.DataFrame, visibility: Visibility) -> PastIndex:
    """Finds what each row sees of both labels, in time linear in the rows.

    Args:
        frame: The whole table, see `collm.data.history.index_histories`.
        visibility: Which earlier rows a row sees.
    """
    seen = seen_rows(frame)
    user, order = seen["user"].to_numpy(), seen["order"].to_numpy()
    place = rows_by_user(user, order, count_ids(user, int(user.max()) + 1 if len(user) else 0))

    def timed(label: int) -> TimedIndex:
        index = index_histories(seen, visibility, label=label)
        rows = place[visible_rows(seen, visibility, label=label)[place]]
        if not np.array_equal(seen["item"].to_numpy()[rows], index.positives):
            raise DataError("the past of rows: items and times do not belong together; is `order` unique per user?")
        return TimedIndex(index, seen["timestamp"].to_numpy()[rows].astype(np.int64), order[rows].astype(np.int64))

    return PastIndex(timed(1), timed(0))


def listed_past(past: Past, *, times: int = 1) -> PastIndex:
    """Returns an index that gives a past as it was read, whatever the target items are.

    Args:
        past: What rows see.
        times: How many rows in succession see each line of it.

    Returns:
        Offsets of n * times rows.
    """
    column = np.broadcast_to(np.arange(past.items.shape[1]), past.items.shape)

    def timed(chosen: Array) -> TimedIndex:
        counts = chosen.sum(axis=1)
        end = np.cumsum(counts)
        start, end = np.repeat(end - counts, times), np.repeat(end, times)
        index = HistoryIndex(past.items[chosen].astype(np.int32), start, end, repeats=0)
        return TimedIndex(index, past.time[chosen], column[chosen])

    present = past.items != 0
    return PastIndex(timed(present & past.liked), timed(present & ~past.liked))
