"""Times in every usual form beside datetime's own arithmetic."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collm.errors import DataError
from collm.ingest.times import UNITS, recognise_times

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
        (
            pl.Series([1, 2, 3, 4, 5]),
            r"its median 3\.0 is not a date between 1990 and 2100 in any .* since 1970 \(seconds",
        ),
        (pl.Series(["yes", "no", "maybe"]), "it holds 'yes', 'no', 'maybe'; readable are numbers since 1970"),
        (pl.Series([None, None], dtype=pl.Int64), "its median None is not a date"),
    ],
)
def test_other_columns_are_refused(values: pl.Series, message: str) -> None:
    with pytest.raises(DataError, match=message):
        recognise_times(values)


DAY = datetime(2020, 9, 13, 15, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2020-09-13 15:01:11+02", DAY + timedelta(seconds=11, hours=-2)),
        ("2020-09-13 15:01:11.5+0200", DAY + timedelta(seconds=11.5, hours=-2)),
        ("2020-09-13 15:01:11 -07:00", DAY + timedelta(seconds=11, hours=7)),
        ("2020-09-13 15:01+02", DAY - timedelta(hours=2)),
        ("2020-09-13T15:01Z", DAY),
        ("2020-09-13t15:01:00z", DAY),
        ("2020-09-13 15:01:00 GMT", DAY),
        ("2020-9-13 15:01", DAY),
        ("2020/9/13 15:01", DAY),
        ("2020.09.13 15:01", DAY),
        ("2020-09-13 15:01:11,123", DAY + timedelta(seconds=11.123)),
        ("13.09.2020 15:01", DAY),
        ("13. 9. 2020 15:01", DAY),
        ("13.9.20 15:01", DAY),
        ("13/09/2020 15:01", DAY),
        ("13-09-2020 15:01:00", DAY),
        ("09/13/2020 15:01", DAY),
        ("9/13/2020 3:01 PM", DAY),
        ("9/13/20 3:01:00 pm", DAY),
        ("09/13/2020 12:01 AM", DAY - timedelta(hours=15)),
        ("13 Sep 2020 15:01", DAY),
        ("Sep 13, 2020", DAY - timedelta(hours=15, minutes=1)),
        ("September 13, 2020", DAY - timedelta(hours=15, minutes=1)),
        ("13-Sep-2020", DAY - timedelta(hours=15, minutes=1)),
        ("09 13, 2020", DAY - timedelta(hours=15, minutes=1)),
        ("Sun, 13 Sep 2020 15:01:11 +0000", DAY + timedelta(seconds=11)),
        ("Sun Sep 13 15:01:11 -0700 2020", DAY + timedelta(seconds=11, hours=7)),
        ("13/Sep/2020:15:01:11 +0000", DAY + timedelta(seconds=11)),
        ("20200913", DAY - timedelta(hours=15, minutes=1)),
        ("20200913150100", DAY),
        ("1600009260,5", DAY + timedelta(seconds=0.5)),
        ("1.60000926E9", DAY),
        ("1.600009260E+09", DAY),
    ],
)
def test_dates_as_people_write_them(text: str, moment: datetime) -> None:
    found = recognise_times(pl.Series([text, None]))
    assert found.microseconds.to_list() == [round(moment.timestamp() * 10**6), None]


@given(
    moments=st.lists(st.datetimes(datetime(2000, 1, 1), datetime(2039, 1, 1)), min_size=1, max_size=20),
    form=st.sampled_from(["%d.%m.%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S", "%d/%m/%Y %I:%M:%S %p", "%d-%m-%Y", "%m/%d/%y"]),
)
def test_a_date_is_never_taken_for_another(moments: list[datetime], form: str) -> None:
    values = pl.Series([moment.strftime(form) for moment in moments])
    try:
        found = recognise_times(values)
    except DataError as error:
        assert "no value says which number is the month" in str(error)
        order = "month-first" if form.startswith("%m") else "day-first"
        found = recognise_times(values, order)
    expected = [round(datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()) for text in values]
    assert found.seconds().to_list() == expected


def test_units_may_be_mixed() -> None:
    values = [1_600_000_000, 1_600_000_001_000, 1_600_000_002_000_000, 1_600_000_003_000_000_000, 1_600_000_004]
    for column in (pl.Series(values), pl.Series(values).cast(pl.String)):
        found = recognise_times(column)
        assert found.seconds().to_list() == [1_600_000_000 + n for n in range(5)]
        assert found.form == (
            "numbers since 1970, 2 in seconds and 1 in milliseconds and 1 in microseconds and 1 in nanoseconds"
        )


def test_what_only_the_user_knows() -> None:
    cells = pl.Series([44087.625, 44088.0])
    with pytest.raises(DataError, match=r"`spreadsheet-days` \(its median is then 2020-09-13\), `days`.*`relative`"):
        recognise_times(cells)
    found = recognise_times(cells, "spreadsheet-days")
    assert found.seconds().to_list() == [round(DAY.timestamp()) - 60, round(DAY.timestamp()) - 60 + 32_400]
    assert recognise_times(pl.Series([18518]), "days").seconds().to_list() == [18518 * 86_400]
    relative = recognise_times(pl.Series(["0", "7", "x", str(10**30)]), "relative")
    assert relative.seconds().to_list() == [0, 7, None, None]
    assert "no dates are known" in relative.form
    with pytest.raises(DataError, match=r"no value says which number is the month.*`day-first` or `month-first`"):
        recognise_times(pl.Series(["03/04/2020", "05/06/2020"]))
    assert recognise_times(pl.Series(["03/04/2020"]), "day-first").seconds().to_list() == [1585872000]
    assert recognise_times(pl.Series(["03/04/2020"]), "month-first").seconds().to_list() == [1583280000]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["13/09/2020", "09/14/2020"], "'13/09/2020', which has the day first, and '09/14/2020'"),
        (["20-09-13"], "no value says which number is the month"),
        (["1.60001E+09", "1.60002E+09"], "lacks its last digits; export the times as whole numbers"),
        (["1.60001E+12"], "lacks its last digits"),
        (["1,60001E+12"], "lacks its last digits"),
    ],
)
def test_what_is_not_clear_is_an_error(values: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        recognise_times(pl.Series(values))


def test_zeros_at_the_end_are_no_lost_digits() -> None:
    found = recognise_times(pl.Series(["1.60000926e+09", "1.600009261e+09"]))
    assert found.seconds().to_list() == [1_600_009_260, 1_600_009_261]


def test_float32_is_said() -> None:
    assert "rounds them" in recognise_times(pl.Series([1.6e9], dtype=pl.Float32)).form
