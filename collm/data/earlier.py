"""What was known of a user and an item just before a row: their labels strictly earlier in time, of every split."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from collm.data.prepared import PreparedData

Array = np.ndarray[Any, Any]


class EarlierLabels:
    """Counts labels before any moment in O(log n) each, O(n) memory.

    Rows of the evaluation period count as soon as they lie strictly before that moment, and rows outside every
    split too: this is what a recommender in use would know. Under `as-of-split` only training rows count, as in the
    histories of that protocol.
    """

    def __init__(self, data: PreparedData) -> None:
        """Sorts the rows of a prepared dataset by user and by item."""
        table = data.interactions()
        if data.visibility == "as-of-split":
            table = table.filter((pl.col("split") == "train").fill_null(False))
        time, label = table["timestamp"].to_numpy(), table["label"].to_numpy()
        self._times = np.unique(time)
        place = np.searchsorted(self._times, time)
        self._user = _Timeline(table["user"].to_numpy(), place, label, len(self._times))
        self._item = _Timeline(table["item"].to_numpy(), place, label, len(self._times))

    def counts(self, user: Array, item: Array, time: Array) -> Array:
        """Counts what lies strictly before each row.

        Args:
            user: int64 [n] dense ids.
            item: int64 [n] dense ids.
            time: int64 [n] seconds since 1970 UTC.

        Returns:
            float32 [n, 4]: positives and rows of the user, positives and rows of the item.
        """
        place = np.searchsorted(self._times, time)
        return np.stack([*self._user.before(user, place), *self._item.before(item, place)], axis=1).astype(np.float32)


class _Timeline:
    """Rows of one kind of id, by id and then by time."""

    def __init__(self, ids: Array, place: Array, label: Array, n_times: int) -> None:
        self._step = n_times + 1
        key = ids.astype(np.int64) * self._step + place
        order = np.argsort(key, kind="stable")
        self._key = key[order]
        self._positives = np.concatenate([[0], np.cumsum(label[order], dtype=np.int64)])

    def before(self, ids: Array, place: Array) -> tuple[Array, Array]:
        """Returns positives and rows of each id before its place in time, int64 [n] each."""
        first = np.searchsorted(self._key, ids * self._step)
        last = np.searchsorted(self._key, ids * self._step + place)
        return self._positives[last] - self._positives[first], last - first
