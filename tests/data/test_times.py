"""Times in every usual form beside datetime's own arithmetic."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pytest

from collm.data.times import UNITS, recognise_times
from collm.errors import DataError

MOMENTS = [
    datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC) + timedelta(days=400 * n, microseconds=123_000 * n) for n in range(8)
]
MICRO = [round(moment.timestamp() * 10**6) for moment in MOMENTS]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("as_text", [False, True])
def test_numbers_in_each_unit(unit: str, as_text: bool) -> None:
    values = pl.Series([micro * UNITS[unit] // 10**6 for micro in MICRO] + [None])
    found = recognise_times(values.cast(pl.String) if as_text else values)
    step = 10**6 // min(UNITS[unit], 10**6)
    assert found.microseconds.to_list() == [micro // step * step for micro in MICRO] + [None]
    assert found.seconds().to_list() == [micro // 10**6 for micro in MICRO] + [None]
    assert found.form == f"{unit} since 1970"
    assert not found.unreadable.any()


def test_fractions_of_seconds() -> None:
    found = recognise_times(pl.Series([1.5e9 + 0.25, float("nan"), None]))
    assert found.microseconds.to_list() == [1_500_000_000_250_000, None, None]


@pytest.mark.parametrize(
    "form",
    [
        "%Y-%m-%dT%H:%M:%S.%f%z",
        "%Y-%m-%d %H:%M:%S.%f",
        "%Y-%m-%dT%H:%M:%S.%fZ",
        "%Y-%m-%d %H:%M:%S.%f UTC",
        "%Y/%m/%d %H:%M:%S.%f",
    ],
)
def test_iso_text(form: str) -> None:
    values = pl.Series([moment.strftime(form) for moment in MOMENTS] + [" ", None])
    found = recognise_times(values)
    assert found.microseconds.to_list() == [*MICRO, None, None]
    assert found.form == "ISO text, UTC where no zone is given"


def test_zones_are_kept_and_days_are_ties() -> None:
    there = timezone(timedelta(hours=-7))
    zoned = recognise_times(pl.Series([moment.astimezone(there).isoformat() for moment in MOMENTS]))
    assert zoned.microseconds.to_list() == MICRO
    days = recognise_times(pl.Series([moment.strftime("%Y-%m-%d") for moment in MOMENTS]))
    assert days.seconds().to_list() == [micro // (86_400 * 10**6) * 86_400 for micro in MICRO]
    assert "rows of one day are ties" in days.form


def test_columns_of_parquet() -> None:
    assert recognise_times(pl.Series(MOMENTS)).microseconds.to_list() == MICRO
    days = recognise_times(pl.Series([date(2024, 2, 29), None]))
    assert days.seconds().to_list() == [round(datetime(2024, 2, 29, tzinfo=UTC).timestamp()), None]
    assert days.form == "days (rows of one day are ties)"
    with pytest.raises(DataError, match=r"it holds Duration.*; a date or a datetime is needed"):
        recognise_times(pl.Series([timedelta(seconds=1)]))


def test_values_that_are_no_times_or_impossible() -> None:
    found = recognise_times(pl.Series(["1500000000", "soon", "17", "1500000001", "99999999999999"]))
    assert found.microseconds.to_list() == [1_500_000_000_000_000, None, None, 1_500_000_001_000_000, None]
    assert found.unreadable.to_list() == [False, True, False, False, False]
    dated = recognise_times(pl.Series(["2020-01-01", "1969-07-20", "2020-02-30"]))
    assert dated.microseconds.null_count() == 2
    assert dated.unreadable.to_list() == [False, False, True]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pl.Series([1, 2, 3, 4, 5]), "its middle value is 3.0, which in none of seconds"),
        (pl.Series(["yes", "no", "maybe"]), "it holds 'yes', 'no', 'maybe'; readable are numbers since 1970"),
        (pl.Series([None, None], dtype=pl.Int64), "its middle value is None"),
    ],
)
def test_other_columns_are_refused(values: pl.Series, message: str) -> None:
    with pytest.raises(DataError, match=message):
        recognise_times(values)
