"""What was known of a user and an item just before a row: their labels strictly earlier in time, of every split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from collm.contracts.data import SAMPLED, Visibility
from collm.data.prepared import PreparedData

Array = np.ndarray[Any, Any]
_DAY = 86_400
_NEVER = np.iinfo(np.int64).min


@dataclass(frozen=True)
class KnownLabels:
    """What the labels strictly before rows say of each row's user and item.

    Attributes:
        counts: float32 [n, 4]: positives and rows of the user, positives and rows of the item.
        recent: float32 [n, 2, n_half_lives, 2]: of user and item, for each half-life, positives and rows, each with
            weight 0.5 ** (later rows of the same id before this one / half-life). Rows of one second have the mean
            weight of their places, which is what a random order gives on average.
        days_since: float32 [n, 2] whole days since the last label of user and item; -1 = none.
    """

    counts: Array
    recent: Array
    days_since: Array


class EarlierLabels:
    """Sums up labels before any moment in O(log n) each, after one pass over the sorted rows, in O(n) memory.

    Rows of one second never see each other, and their order among themselves changes nothing. Rows of the evaluation
    period count as soon as they lie strictly before that moment, and rows outside every split too: this is what a
    recommender in use would know; drawn negatives do not. Under `as-of-split` only training rows count, as in the
    histories of that protocol.
    """

    def __init__(
        self, data: PreparedData, *, half_lives: Sequence[float] = (), visibility: Visibility | None = None
    ) -> None:
        """Sorts the rows of a prepared dataset by user and by item.

        Args:
            data: The dataset.
            half_lives: Rows of the same user or item after which a label counts half in `recent`, each above 0.
            visibility: Which rows count; None = by the dataset's own protocol.
        """
        table = data.interactions()
        if SAMPLED in table.columns:  # what was drawn never happened
            table = table.filter(~pl.col(SAMPLED))
        if (visibility or data.visibility) == "as-of-split":
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
        return self.before(user, item, time).counts

    def before(self, user: Array, item: Array, time: Array) -> KnownLabels:
        """Returns what the labels strictly before each row say; arguments as of `counts`."""
        place = np.searchsorted(self._times, time)
        sides = [(self._user, *self._user.span(user, place)), (self._item, *self._item.span(item, place))]
        counts = [each for side, first, last in sides for each in (side.positives(first, last), last - first)]
        last_times = np.stack([side.last_time(first, last) for side, first, last in sides], axis=1)
        return KnownLabels(
            counts=np.stack(counts, axis=1).astype(np.float32),
            recent=np.stack([side.recent(first, last) for side, first, last in sides], axis=1),
            days_since=np.where(last_times == _NEVER, -1, (time[:, None] - last_times) // _DAY).astype(np.float32),
        )


class _Timeline:
    """Rows of one kind of id, by id and then by time.

    Memory per row: 16 bytes, and 4 for each half-life.
    """

    def __init__(self, ids: Array, place: Array, label: Array, times: Array, half_lives: Sequence[float]) -> None:
        self._times, self._step = times, len(times) + 1
        key = ids.astype(np.int64) * self._step + place
        order = np.argsort(key, kind="stable")
        self._key, label = key[order], label[order]
        last_id = int(self._key[-1] // self._step) if len(key) else -1
        # Where each id begins; one entry more for ids without a row.
        self._starts = np.searchsorted(self._key, np.arange(last_id + 2) * self._step)
        self._positives = np.concatenate([[0], np.cumsum(label, dtype=np.int64)])
        self._means = [(half_life, self._weighted_means(label, half_life)) for half_life in half_lives]

    def span(self, ids: Array, place: Array) -> tuple[Array, Array]:
        """Returns int64 [n] first place of each id among the sorted rows, and the place after what lies before."""
        first = self._starts[np.minimum(ids, len(self._starts) - 1)]
        return first, np.maximum(first, np.searchsorted(self._key, ids * self._step + place))

    def positives(self, first: Array, last: Array) -> Array:
        """Returns int64 [n] positives of spans."""
        found: Array = self._positives[last] - self._positives[first]
        return found

    def recent(self, first: Array, last: Array) -> Array:
        """Returns float32 [n, n_half_lives, 2]: weighted positives and rows of spans."""
        found = np.zeros((len(first), len(self._means), 2), dtype=np.float32)
        if not len(self._key):
            return found
        for number, (half_life, means) in enumerate(self._means):
            decay = 0.5 ** (1 / half_life)
            weight = (1 - decay ** (last - first)) / (1 - decay)
            found[:, number] = np.stack([np.where(last > first, means[last - 1], 0.0) * weight, weight], axis=1)
        return found

    def last_time(self, first: Array, last: Array) -> Array:
        """Returns int64 [n] seconds of the last row of spans; `_NEVER` where one is empty."""
        if not len(self._key):
            return np.full(len(first), _NEVER)
        at = self._key[np.maximum(last - 1, 0)] % self._step
        return np.where(last > first, self._times[np.minimum(at, len(self._times) - 1)], _NEVER)

    def _weighted_means(self, label: Array, half_life: float) -> Array:
        """Returns float32 [n_rows]: after each row, the weighted mean of its id's labels so far.

        Rows of one second enter with their mean label, so that the mean after them does not depend on their order.
        """
        tie = np.cumsum(np.diff(self._key, prepend=-1) != 0) - 1
        mean = (np.bincount(tie, weights=label) / np.bincount(tie))[tie] if len(label) else np.zeros(0)
        rows = pl.DataFrame({"id": self._key // self._step, "mean": mean})
        found: Array = rows.select(pl.col("mean").ewm_mean(half_life=half_life).over("id"))["mean"].to_numpy()
        return found.astype(np.float32)
