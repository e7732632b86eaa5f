"""Histories of (user, item, time) triples that are not rows of the dataset: what a model would see then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import polars as pl

from collm.contracts.data import Visibility
from collm.data.history import HistoryIndex
from collm.data.past import PastIndex, TimedIndex, seen_rows
from collm.data.prepared import PreparedData, Rows
from collm.errors import DataError
from collm.ingest.times import FIRST, FIRST_YEAR, LAST, LAST_YEAR, recognise_times

Array = np.ndarray[Any, Any]
LATEST = np.iinfo(np.int64).max
NO_TIME = (
    f"must be whole seconds (or milliseconds, microseconds, nanoseconds) since 1970 UTC, or a date, between "
    f"{FIRST_YEAR} and {LAST_YEAR}"
)
_WHOLE = r"^([+-]?\d+)(?:\.0*)?$"


@dataclass(frozen=True)
class _Sorted:
    """The rows of one label that pairs may see, by user and order.

    Attributes:
        item: int32 [n] dense ids.
        time: int64 [n] seconds.
        order: int64 [n] place among all rows of the user.
        key: int64 [n] user * step + place of the time among all times, rising.
        times: int64 distinct times, sorted.
        repeats: Most rows of one user and item; 0 where targets need not be left out.
    """

    item: Array
    time: Array
    order: Array
    key: Array
    times: Array
    repeats: int

    @classmethod
    def of(cls, rows: pl.DataFrame, visibility: Visibility, label: int) -> _Sorted:
        """Sorts the rows of a label that a visibility shows."""
        visible = rows.filter(pl.col("label") == label)
        if visibility == "as-of-split":
            visible = visible.filter(pl.col("split") == "train")
        visible = visible.sort("user", "order")
        time = visible["timestamp"].to_numpy()
        times = np.unique(time)
        key = visible["user"].to_numpy().astype(np.int64) * (len(times) + 1) + np.searchsorted(times, time)
        repeats = 0
        if visibility != "all" and visible.height:
            repeats = int(visible.group_by("user", "item").len()["len"].max() or 0)
        item, order = visible["item"].to_numpy().astype(np.int32), visible["order"].to_numpy()
        return cls(item, time, order, key, times, repeats)

    def index(self, user: Array, moment: Array) -> HistoryIndex:
        """Returns where the items lie that users saw before moments, int64 [n] each."""
        step = len(self.times) + 1
        first = np.searchsorted(self.key, user * step)
        # Rows of the moment itself lie at its place, so those are not seen.
        end = np.searchsorted(self.key, user * step + np.searchsorted(self.times, moment))
        return HistoryIndex(self.item, first, end, self.repeats)

    def timed(self, user: Array, moment: Array) -> TimedIndex:
        """Returns the same with times."""
        return TimedIndex(self.index(user, moment), self.time, self.order)


class PairHistories:
    """Histories of pairs at any moment: the positives are sorted once, each pair is then looked up in O(log n)."""

    def __init__(self, data: PreparedData) -> None:
        """Sorts the positives of a prepared dataset by user and time."""
        self._data = data
        self._liked = _Sorted.of(data.interactions(), data.visibility, label=1)

    @cached_property
    def _disliked(self) -> _Sorted:
        return _Sorted.of(seen_rows(self._data.interactions()), self._data.visibility, label=0)

    def rows(
        self, user: Array, item: Array, time: Array | None, *, titles: Sequence[str] | None = None
    ) -> tuple[PreparedData, Rows]:
        """Makes rows of pairs; see `pair_rows`."""
        n = len(user)
        user, item = np.asarray(user, dtype=np.int64), np.asarray(item, dtype=np.int64)
        moment = np.full(n, LATEST) if time is None else np.asarray(time, dtype=np.int64)
        rows = Rows(
            user=user,
            item=item,
            label=np.zeros(n, dtype=np.int8),
            timestamp=moment,
            row=np.arange(n, dtype=np.int64),
            index=np.arange(n, dtype=np.int64),
        )
        view = self._data.with_histories(
            self._liked.index(user, moment),
            self._data.titles if titles is None else titles,
            past=cache(lambda: PastIndex(self._liked.timed(user, moment), self._disliked.timed(user, moment))),
        )
        return view, rows


def pair_rows(
    data: PreparedData, user: Array, item: Array, time: Array | None, *, titles: Sequence[str] | None = None
) -> tuple[PreparedData, Rows]:
    """Makes rows of pairs, each with the positives that its user had strictly before its time.

    The items that the user disliked are found by the same rules. Under `as-of-split` only training rows count. The
    target is left out of its own history except under `all`, as for rows of the dataset. Of `all`, earlier rows of the
    very same second are not seen: a pair has no place among them.

    Args:
        data: The prepared dataset.
        user: int64 [n] dense ids, 0 = unknown.
        item: int64 [n] dense ids, 0 = unknown; ids above `n_items` count into `titles` only.
        time: int64 [n] seconds since 1970 UTC; None = after everything that is known.
        titles: Titles by item id, the dataset's first; default: the dataset's own.

    Returns:
        The data with the histories of these pairs, and the rows (labels are 0 and mean nothing).
    """
    return PairHistories(data).rows(user, item, time, titles=titles)


def asked_seconds(times: pl.Series, data: PreparedData) -> pl.Series:
    """Brings times of pairs to the seconds that the dataset counts in.

    Where the dataset has dates, a number counts in the unit in which it lies between 1990 and 2100, and dates as text
    are read, too. Where it has none (relative times, or the order of the file), whole numbers are taken as they are.

    Args:
        times: Numbers, text, dates or datetimes.
        data: The prepared dataset.

    Returns:
        int64, null where the value is not such a time.
    """
    if has_dates(data):
        try:
            return recognise_times(times).seconds()
        except DataError:
            return pl.Series(times.name, [None] * len(times), dtype=pl.Int64)
    text = times.cast(pl.String).str.strip_chars()
    return text.str.extract(_WHOLE, 1).cast(pl.Int64, strict=False)


def are_times(times: pl.Series) -> pl.Series:
    """Returns bool: whether each value is a time to some dataset: a number of 64 bits, or a date."""
    numbers = times.cast(pl.String).str.strip_chars().str.extract(_WHOLE, 1).cast(pl.Int64, strict=False)
    try:
        dates = recognise_times(times).microseconds.is_not_null()
    except DataError:
        dates = pl.repeat(False, len(times), eager=True)
    return numbers.is_not_null() | dates


def has_dates(data: PreparedData) -> bool:
    """Whether the dataset's times are moments since 1970."""
    times = data.interactions()["timestamp"]
    return bool(times.len()) and int(times.min()) >= FIRST and int(times.max()) <= LAST


def unit_of(data: PreparedData) -> str:
    """Returns what a time must be for this dataset, in words."""
    if not has_dates(data):
        return "must be a whole number of 64 bits, in the numbers that the dataset counts its rows by (it has no dates)"
    return NO_TIME


class IdPlaces:
    """Places of raw ids among the known ones, looked up in O(1) each."""

    def __init__(self, known: Sequence[str]) -> None:
        """Takes raw ids by dense id; index 0 is padding."""
        self._places = {name: place for place, name in enumerate(known) if place}

    def of(self, raw: Sequence[str]) -> Array:
        """Returns int64 [n] places of raw ids, 0 where an id is not known."""
        return np.array([self._places.get(name, 0) for name in raw], dtype=np.int64)


@dataclass(frozen=True)
class AskedPairs:
    """The pairs of one question.

    Attributes:
        user: int64 [n] dense ids, 0 = unknown.
        item: int64 [n] dense ids; those above the dataset's items count into `extra_titles`.
        moment: int64 [n] when each pair is asked, in the seconds that the dataset counts in.
        extra_titles: Titles of the items that the dataset does not know.
    """

    user: Array
    item: Array
    moment: Array
    extra_titles: tuple[str, ...] = ()


def joined_pairs(questions: Sequence[AskedPairs], n_items: int) -> AskedPairs:
    """Returns the pairs of several questions, one after the other; each question keeps its own extra titles.

    Args:
        questions: At least one.
        n_items: Items of the dataset, without padding.
    """
    items: list[Array] = []
    titles: list[str] = []
    for question in questions:
        items.append(np.where(question.item > n_items, question.item + len(titles), question.item))
        titles += question.extra_titles
    return AskedPairs(
        user=np.concatenate([question.user for question in questions]),
        item=np.concatenate(items),
        moment=np.concatenate([question.moment for question in questions]),
        extra_titles=tuple(titles),
    )
