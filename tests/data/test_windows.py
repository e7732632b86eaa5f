"""Windows of test rows: cut by rows or by the calendar, never within a second, with what was seen before each."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collm.data.prepared import Rows
from collm.data.windows import cut_windows
from collm.errors import DataError
from collm.spec.sections import WindowLength

DAY = 86_400


def table(train, valid, test, has_times=True):
    """Prepared data of (user, item, time) rows per split."""
    every = [*train, *valid, *test]
    columns = [np.array(column, dtype=np.int64) for column in zip(*every, strict=True)]
    places = np.arange(len(every))
    whole = Rows(columns[0], columns[1], np.ones(len(every), dtype=np.int8), columns[2], places, places)
    ends = np.cumsum([len(train), len(valid), len(test)])
    parts = {"train": places[: ends[0]], "valid": places[ends[0] : ends[1]], "test": places[ends[1] :]}
    return SimpleNamespace(
        rows=lambda name: whole.take(parts[name]),
        rows_at=whole.take,
        has_times=has_times,
        n_users=int(columns[0].max()),
        n_items=int(columns[1].max()),
    )


@settings(max_examples=60, deadline=None)
@given(times=st.lists(st.integers(10, 25), min_size=1, max_size=30), n=st.integers(1, 8))
def test_rows_are_cut_in_order_and_seconds_stay_whole(times, n) -> None:
    data = table([(1, 1, 0)], [(1, 2, 1)], [(1, 3, time) for time in times])
    windows = cut_windows(data, WindowLength(n, "rows"))
    assert sorted(np.concatenate([window.places for window in windows])) == list(range(len(times)))
    for before, after in itertools.pairwise(windows):
        assert before.rows.timestamp.max() < after.rows.timestamp.min()
        assert len(before.rows) >= 1
    ordered = sorted(times)
    for window in windows:
        first = ordered.index(window.rows.timestamp.min())
        assert first // n == ordered.index(window.rows.timestamp.max()) // n
        assert set(window.seen.timestamp[window.seen.timestamp > 1]) == {t for t in times if t < ordered[first]}
        assert len(window.seen) == 2 + sum(t < ordered[first] for t in times)


def test_months_are_those_of_the_calendar() -> None:
    moments = [datetime(2003, 1, 31, 23, 59, 59), datetime(2003, 2, 1), datetime(2003, 2, 28), datetime(2003, 5, 3)]
    times = [int(moment.replace(tzinfo=UTC).timestamp()) for moment in moments]
    data = table([(1, 1, 0)], [(2, 1, 1)], [(3, 1, times[0]), (1, 4, times[1]), (3, 5, times[2]), (4, 4, times[3])])
    windows = cut_windows(data, WindowLength.parse("1 month"))
    assert [window.rows.timestamp.tolist() for window in windows] == [times[:1], times[1:3], times[3:]]
    assert [window.number for window in windows] == [0, 1, 2]  # months without rows have no window
    assert [(window.new_users, window.new_items) for window in windows] == [(1, 0), (0, 2), (1, 0)]
    assert [window.new.timestamp.tolist() for window in windows] == [[1], times[:1], times[1:3]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("500 rows", (500, "rows")), ("1 month", (1, "mo")), (" 2  weeks ", (2, "w")), ("1 row", (1, "rows"))],
)
def test_lengths_are_read(text, expected) -> None:
    length = WindowLength.parse(text)
    assert (length.n, length.unit) == expected


@pytest.mark.parametrize("text", ["", "month", "0 rows", "-1 days", "1.5 days", "1 hour", "1 month 2 days"])
def test_other_lengths_are_refused(text) -> None:
    with pytest.raises(ValueError, match="not a length of a window"):
        WindowLength.parse(text)


def test_splits_that_overlap_in_time_are_refused() -> None:
    with pytest.raises(DataError, match="1 of 2 training rows are not earlier"):
        cut_windows(table([(1, 1, 0), (1, 1, 5)], [(1, 1, 1)], [(1, 1, 5)]), WindowLength(1, "rows"))
    with pytest.raises(DataError, match="1 of 1 validation rows are not earlier"):
        cut_windows(table([(1, 1, 0)], [(1, 1, 7)], [(1, 1, 5)]), WindowLength(1, "rows"))
    with pytest.raises(DataError, match="no times"):
        cut_windows(table([(1, 1, 0)], [(1, 1, 1)], [(1, 1, 5)], has_times=False), WindowLength(1, "rows"))
