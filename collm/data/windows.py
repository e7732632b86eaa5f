"""Windows of rows in order of time, and which rows were seen before each."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from collm.data.prepared import PreparedData, Rows
from collm.errors import DataError
from collm.spec.sections import WindowLength

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Window:
    """Some of the test rows, consecutive in time.

    Attributes:
        number: From 0.
        places: int64 [n] places of its rows among the test rows, rising.
        rows: Its rows.
        new: Rows that were seen since the window before; before the first window, the validation rows.
        new_users: Users of the window without a seen row.
        new_items: Items of the window without a seen row.
        read_seen: Reads `seen`, which no window keeps.
    """

    number: int
    places: Array
    rows: Rows
    new: Rows
    new_users: int
    new_items: int
    read_seen: Callable[[], Rows]

    @property
    def seen(self) -> Rows:
        """Rows of every split strictly before its first row, in the order of the table; none that a limit left out."""
        return self.read_seen()


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
    before = np.concatenate([train.index, valid.index])
    known = {side: np.zeros(n + 1, dtype=bool) for side, n in (("user", data.n_users), ("item", data.n_items))}
    for side, marks in known.items():
        marks[getattr(train, side)] = marks[getattr(valid, side)] = True
    windows: list[Window] = []
    new = valid
    for number in range(int(numbers.max()) + 1):
        places = np.flatnonzero(numbers == number)
        rows = test.take(places)
        unknown = {}
        for side, marks in known.items():
            ids = np.unique(getattr(rows, side))
            unknown[side] = int((~marks[ids]).sum())
            marks[ids] = True
        see = functools.partial(_rows_seen, data, before, test.index, numbers < number)
        windows.append(Window(number, places, rows, new, unknown["user"], unknown["item"], see))
        new = rows
    return windows


def _rows_seen(data: PreparedData, before: Array, test: Array, earlier: Array) -> Rows:
    """Returns the rows at `before`, and at those places of `test` where `earlier` says so, in the table's order."""
    return data.rows_at(np.sort(np.concatenate([before, test[earlier]])))


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
