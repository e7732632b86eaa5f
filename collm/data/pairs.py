"""Histories of (user, item, time) triples that are not rows of the dataset: what a model would see then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from collm.data.columns import as_series
from collm.data.history import HistoryIndex
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


def pair_rows(
    data: PreparedData, user: Array, item: Array, time: Array | None, *, titles: Sequence[str] | None = None
) -> tuple[PreparedData, Rows]:
    """Makes rows of pairs, each with the positives that its user had strictly before its time.

    Under `as-of-split` only training rows count. The target is left out of its own history except under `all`, as for
    rows of the dataset. Of `all`, earlier rows of the very same second are not seen: a pair has no place among them.

    Args:
        data: The prepared dataset.
        user: int64 [n] dense ids, 0 = unknown.
        item: int64 [n] dense ids, 0 = unknown; ids above `n_items` count into `titles` only.
        time: int64 [n] seconds since 1970 UTC; None = after everything that is known.
        titles: Titles by item id, the dataset's first; default: the dataset's own.

    Returns:
        The data with the histories of these pairs, and the rows (labels are 0 and mean nothing).
    """
    n = len(user)
    moment = np.full(n, LATEST) if time is None else np.asarray(time, dtype=np.int64)
    index = _index(data, np.asarray(user, dtype=np.int64), moment)
    rows = Rows(
        user=np.asarray(user, dtype=np.int64),
        item=np.asarray(item, dtype=np.int64),
        label=np.zeros(n, dtype=np.int8),
        timestamp=moment,
        row=np.arange(n, dtype=np.int64),
        index=np.arange(n, dtype=np.int64),
    )
    return data.with_histories(index, data.titles if titles is None else titles), rows


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


def dense_ids(raw: Sequence[str], known: Sequence[str]) -> Array:
    """Returns int64 [n] positions of raw ids in `known`, 0 where an id is not there (index 0 is padding)."""
    wanted = pl.DataFrame({"id": pl.Series(list(raw), dtype=pl.String)})
    places = as_series(known, "id").to_frame().with_row_index("place").slice(1)
    places = places.join(wanted.unique(), on="id", how="semi").unique("id", keep="last", maintain_order=True)
    found = wanted.join(places, on="id", how="left", maintain_order="left")["place"]
    places_found: Array = found.fill_null(0).cast(pl.Int64).to_numpy()
    return places_found


def _index(data: PreparedData, user: Array, moment: Array) -> HistoryIndex:
    table = data.interactions()
    visible = table.filter(pl.col("label") == 1)
    if data.visibility == "as-of-split":
        visible = visible.filter(pl.col("split") == "train")
    visible = visible.sort("user", "order")
    owner, when = visible["user"].to_numpy().astype(np.int64), visible["timestamp"].to_numpy()
    start = np.searchsorted(owner, user, side="left")
    end = _first_not_before(owner, when, user, moment)
    repeats = 0
    if data.visibility != "all" and visible.height:
        repeats = int(visible.group_by("user", "item").len()["len"].max() or 0)
    return HistoryIndex(visible["item"].to_numpy().astype(np.int32), start, end, repeats)


def _first_not_before(owner: Array, when: Array, user: Array, moment: Array) -> Array:
    """Returns the place after each user's last positive before `moment`; rows are sorted by owner, then time."""
    merged = np.concatenate([owner, user])
    times = np.concatenate([when, moment])
    is_query = np.concatenate([np.zeros(len(owner), dtype=bool), np.ones(len(user), dtype=bool)])
    # Queries come before rows of their own second, so those are not seen.
    order = np.lexsort((~is_query, times, merged))
    rows_before = np.cumsum(~is_query[order])
    place = np.empty(len(merged), dtype=np.int64)
    place[order] = rows_before
    return place[len(owner) :]
