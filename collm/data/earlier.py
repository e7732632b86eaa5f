"""What was known of a user and an item just before a row: their labels strictly earlier in time, of every split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from collm.data.prepared import PreparedData

Array = np.ndarray[Any, Any]
_DAY = 86_400
_NEVER = np.iinfo(np.int64).min


class EarlierLabels:
    """Sums up labels before any moment in O(log n) each, after one pass over the sorted rows, in O(n) memory.

    Rows of one second never see each other, and their order among themselves changes nothing. Rows of the evaluation
    period count as soon as they lie strictly before that moment, and rows outside every split too: this is what a
    recommender in use would know. Under `as-of-split` only training rows count, as in the histories of that protocol.
    """

    def __init__(self, data: PreparedData, *, half_lives: Sequence[float] = ()) -> None:
        """Sorts the rows of a prepared dataset by user and by item.

        Args:
            data: The dataset.
            half_lives: Rows of the same user or item after which a label counts half in `recent`, each above 0.
        """
        table = data.interactions()
        if data.visibility == "as-of-split":
            table = table.filter((pl.col("split") == "train").fill_null(False))
        time, label = table["timestamp"].to_numpy(), table["label"].to_numpy()
        self._times = np.unique(time)
        place = np.searchsorted(self._times, time)
        self._half_lives = tuple(half_lives)
        self._user, self._item = (
            _Timeline(table[side].to_numpy(), place, label, self._times, self._half_lives) for side in ("user", "item")
        )

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
        sides = [self._user.before(user, place), self._item.before(item, place)]
        return np.stack([each for side in sides for each in side], axis=1).astype(np.float32)

    def recent(self, user: Array, item: Array, time: Array) -> Array:
        """Counts the same with weights that halve: 0.5 ** (later rows of the same id before this one / half-life).

        Rows of one second have the mean weight of their places, which is what a random order gives on average.

        Args:
            user: int64 [n] dense ids.
            item: int64 [n] dense ids.
            time: int64 [n] seconds since 1970 UTC.

        Returns:
            float32 [n, 2, n_half_lives, 2]: of the user and of the item, for each half-life, positives and rows.
        """
        place = np.searchsorted(self._times, time)
        return np.stack([self._user.recent(user, place), self._item.recent(item, place)], axis=1)

    def days_since(self, user: Array, item: Array, time: Array) -> Array:
        """Returns float32 [n, 2] whole days since the last earlier label of the user and of the item; -1 = none."""
        place = np.searchsorted(self._times, time)
        last = np.stack([self._user.last_time(user, place), self._item.last_time(item, place)], axis=1)
        return np.where(last == _NEVER, -1, (time[:, None] - last) // _DAY).astype(np.float32)


class _Timeline:
    """Rows of one kind of id, by id and then by time.

    Memory per row: 16 bytes, and 4 for each half-life.
    """

    def __init__(self, ids: Array, place: Array, label: Array, times: Array, half_lives: Sequence[float]) -> None:
        self._times, self._step = times, len(times) + 1
        key = ids.astype(np.int64) * self._step + place
        order = np.argsort(key, kind="stable")
        self._key, label = key[order], label[order]
        self._positives = np.concatenate([[0], np.cumsum(label, dtype=np.int64)])
        self._means = [(half_life, self._weighted_means(label, half_life)) for half_life in half_lives]

    def before(self, ids: Array, place: Array) -> tuple[Array, Array]:
        """Returns positives and rows of each id before its place in time, int64 [n] each."""
        first, last = self._range(ids, place)
        return self._positives[last] - self._positives[first], last - first

    def recent(self, ids: Array, place: Array) -> Array:
        """Returns float32 [n, n_half_lives, 2]: decayed positives and rows of each id before its place in time."""
        first, last = self._range(ids, place)
        found = np.zeros((len(ids), len(self._means), 2), dtype=np.float32)
        if not len(self._key):
            return found
        for number, (half_life, means) in enumerate(self._means):
            decay = 0.5 ** (1 / half_life)
            weight = (1 - decay ** (last - first)) / (1 - decay)
            found[:, number] = np.stack([np.where(last > first, means[last - 1], 0.0) * weight, weight], axis=1)
        return found

    def last_time(self, ids: Array, place: Array) -> Array:
        """Returns int64 [n] seconds of each id's last row before its place in time; `_NEVER` where there is none."""
        first, last = self._range(ids, place)
        if not len(self._key):
            return np.full(len(ids), _NEVER)
        at = self._key[np.maximum(last - 1, 0)] % self._step
        return np.where(last > first, self._times[np.minimum(at, len(self._times) - 1)], _NEVER)

    def _range(self, ids: Array, place: Array) -> tuple[Array, Array]:
        """Returns int64 [n] first place of each id among the sorted rows, and the place after what lies before."""
        first = np.searchsorted(self._key, ids * self._step)
        return first, np.searchsorted(self._key, ids * self._step + place)

    def _weighted_means(self, label: Array, half_life: float) -> Array:
        """Returns float32 [n_rows]: after each row, the weighted mean of its id's labels so far.

        Rows of one second enter with their mean label, so that the mean after them does not depend on their order.
        """
        rows = pl.DataFrame({"key": self._key, "label": label.astype(np.float64)})
        mean = pl.col("label").mean().over("key").ewm_mean(half_life=half_life)
        found: Array = rows.select(mean.over(pl.col("key") // self._step))["label"].cast(pl.Float32).to_numpy()
        return found
