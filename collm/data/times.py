"""Times as people write them -> whole seconds: numbers since 1970 in a usual unit, ISO text, dates of parquet.

What was recognised is said in words. A time before 1990 or after 2100 is impossible: no log of interactions is older.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from collm.errors import DataError

FIRST_YEAR, LAST_YEAR = 1990, 2100
FIRST, LAST = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (FIRST_YEAR, LAST_YEAR))
UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
_MICRO = 10**6
_ISO = ("%Y-%m-%dT%H:%M:%S%.f%:z", "%Y-%m-%dT%H:%M%:z")
_ISO_BARE = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d", "%Y/%m/%d", "%Y/%m/%dT%H:%M:%S%.f")
_DAY_LENGTH = 10


@dataclass(frozen=True)
class Times:
    """A column of times.

    Attributes:
        microseconds: int64 since 1970 UTC, null where the value is no time or impossible.
        unreadable: bool: there is a value, and it is no time at all.
        form: What was recognised, in words.
    """

    microseconds: pl.Series
    unreadable: pl.Series
    form: str

    def seconds(self) -> pl.Series:
        """Returns int64 whole seconds since 1970 UTC, rounded down."""
        return self.microseconds // _MICRO


def recognise_times(values: pl.Series) -> Times:
    """Reads a column of times.

    A column of numbers (or text of numbers) has one unit: the one in which its middle value lies between 1990 and 2100.
    Text without a zone is UTC.

    Args:
        values: Integers, floats, text, dates or datetimes; nulls stay null.

    Raises:
        DataError: If the column is no column of times; says what it holds.
    """
    if values.dtype.is_temporal():
        return _dated(values, unreadable=pl.repeat(False, len(values), eager=True), form=_temporal_form(values.dtype))
    if values.dtype.is_numeric():
        return _counted(values, unreadable=pl.repeat(False, len(values), eager=True))
    text = values.cast(pl.String).str.strip_chars().replace("", None)
    numbers = _numbers(text)
    if 2 * numbers.count() > text.count():
        return _counted(numbers, unreadable=text.is_not_null() & numbers.is_null())
    moments = _iso(text)
    if 2 * moments.count() <= text.count():
        shown = ", ".join(repr(each) for each in text.drop_nulls().unique(maintain_order=True).head(3))
        raise DataError(
            f"not a column of times: it holds {shown}; readable are numbers since 1970 in {', '.join(UNITS)}, and ISO "
            "text such as 2024-05-01 or 2024-05-01T12:30:00Z"
        )
    only_days = bool((text.drop_nulls().str.len_chars() <= _DAY_LENGTH).all())
    form = "ISO days (rows of one day are ties)" if only_days else "ISO text, UTC where no zone is given"
    return _dated(moments, unreadable=text.is_not_null() & moments.is_null(), form=form)


def _numbers(text: pl.Series) -> pl.Series:
    """Whole numbers where all are whole, so that nanoseconds keep their digits; else floats."""
    whole = text.cast(pl.Int64, strict=False)
    real = text.cast(pl.Float64, strict=False)
    return whole if whole.null_count() == real.null_count() else real


def _counted(numbers: pl.Series, *, unreadable: pl.Series) -> Times:
    if numbers.dtype.is_float():
        numbers = numbers.fill_nan(None)
    middle = numbers.drop_nulls().median()
    units = [unit for unit, per_second in UNITS.items() if _in_range(middle, per_second)]
    if not units:
        raise DataError(
            f"not a column of times: its middle value is {middle}, which in none of {', '.join(UNITS)} since 1970 lies "
            f"between {FIRST_YEAR} and {LAST_YEAR}"
        )
    per_second = UNITS[units[0]]
    possible = numbers.set(~numbers.is_between(FIRST * per_second, LAST * per_second).fill_null(False), None)
    micro = possible // (per_second // _MICRO) if per_second > _MICRO else possible * (_MICRO // per_second)
    return Times(micro.cast(pl.Int64), unreadable, f"{units[0]} since 1970")


def _in_range(middle: object, per_second: int) -> bool:
    return isinstance(middle, int | float) and FIRST * per_second <= middle <= LAST * per_second


def _iso(text: pl.Series) -> pl.Series:
    column = pl.col("text")
    # One form for all: a T between day and time, and a zone that is written as an offset.
    even = column.str.replace(r"^(\S+)\s+(\d{1,2}:)", "${1}T${2}").str.replace(r"\s*(Z|z| ?UTC)$", "+00:00")
    zoned = [even.str.to_datetime(form, strict=False, time_unit="us", time_zone="UTC") for form in _ISO]
    bare = [even.str.to_datetime(form, strict=False, time_unit="us").dt.replace_time_zone("UTC") for form in _ISO_BARE]
    return pl.DataFrame({"text": text}).select(pl.coalesce(*zoned, *bare).alias("moment"))["moment"]


def _dated(moments: pl.Series, *, unreadable: pl.Series, form: str) -> Times:
    micro = moments.cast(pl.Datetime("us")).to_physical()
    impossible = ~micro.is_between(FIRST * _MICRO, LAST * _MICRO).fill_null(False)
    return Times(micro.set(impossible, None), unreadable, form)


def _temporal_form(dtype: pl.DataType) -> str:
    if dtype == pl.Date:
        return "days (rows of one day are ties)"
    if not isinstance(dtype, pl.Datetime):
        raise DataError(f"not a column of times: it holds {dtype}; a date or a datetime is needed")
    return f"datetimes ({dtype.time_zone or 'UTC, as no zone is given'})"
