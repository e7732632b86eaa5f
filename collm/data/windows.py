"""Windows of rows in order of time, and which rows were seen before each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from collm.data.prepared import PreparedData, Rows
from collm.errors import DataError
from collm.spec.prequential import WindowLength

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Window:
    """Some of the test rows, consecutive in time.

    Attributes:
        number: From 0.
        places: int64 [n] places of its rows among the test rows, rising.
        rows: Its rows.
        seen: Rows of every split that lie strictly before its first row and were not left out by a limit; training and
            validation rows all of them.
        new: Rows that were seen since the window before; before the first window, the validation rows.
        new_users: Users of the window without a seen row.
        new_items: Items of the window without a seen row.
    """

    number: int
    places: Array
    rows: Rows
    seen: Rows
    new: Rows
    new_users: int
    new_items: int


def cut_windows(data: PreparedData, length: WindowLength) -> list[Window]:
    """Cuts the test rows into windows; rows of one second are never divided.

    Args:
        data: Prepared data whose test rows are later than its others.
        length: How long a window is. Units of the calendar begin at UTC midnight (weeks on Monday, months on the 1st);
            windows without rows are left out.

    Raises:
        DataError: If there are no test rows or no times, or training or validation rows are not earlier than the test
            rows.
    """
    test = data.rows("test")
    if not len(test) or not data.has_times:
        what = "no test rows" if not len(test) else "no times"
        raise DataError(f"evaluate.protocol prequential: the dataset has {what}")
    train, valid = data.rows("train"), data.rows("valid")
    first = int(test.timestamp.min())
    for name, rows in (("training", train), ("validation", valid)):
        if late := int((rows.timestamp >= first).sum()):
            raise DataError(
                f"evaluate.protocol prequential: {late:,} of {len(rows):,} {name} rows are not earlier than the first "
                "test row, so the model would know later rows than those it is asked about; split by time for all "
                "users alike (files: split: {by: quantiles}; movielens: split: global-time)"
            )
    numbers = _numbers(test.timestamp, length)
    windows: list[Window] = []
    seen_index = np.concatenate([train.index, valid.index])
    new = valid
    for number in range(int(numbers.max()) + 1):
        places = np.flatnonzero(numbers == number)
        rows, seen = test.take(places), data.rows_at(np.sort(seen_index))
        new_users, new_items = (
            len(np.setdiff1d(getattr(rows, side), getattr(seen, side))) for side in ("user", "item")
        )
        windows.append(Window(number, places, rows, seen, new, new_users, new_items))
        seen_index, new = np.concatenate([seen_index, rows.index]), rows
    return windows


def _numbers(time: Array, length: WindowLength) -> Array:
    """Returns int64 [n_rows] number of each row's window, from 0, none left out."""
    if length.unit == "rows":
        ordered = np.sort(time)
        # A second belongs to the window that its first row falls into.
        keys = np.searchsorted(ordered, time) // length.n
    else:
        moments = pl.from_epoch(pl.Series(time), time_unit="s")
        keys = moments.dt.truncate(f"{length.n}{length.unit}").to_physical().to_numpy()
    return np.unique(keys, return_inverse=True)[1].reshape(-1).astype(np.int64)
