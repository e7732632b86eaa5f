"""Times as people write them -> whole seconds: numbers since 1970 in a usual unit, text, dates of parquet.

The form that was recognised is returned in words. A time before 1990 or after 2100 is impossible: no log of
interactions is older. What can be meant in two ways (the 3rd of April or the 4th of March, days of a spreadsheet) is an
error that names the choices.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import polars as pl

from collm.errors import DataError
from collm.ingest.time_texts import READABLE, dated_texts
from collm.ingest.typed_rows import point_for_comma

TimeForm = Literal["auto", "day-first", "month-first", "spreadsheet-days", "days", "relative"]
FIRST_YEAR, LAST_YEAR = 1990, 2100
FIRST, LAST = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (FIRST_YEAR, LAST_YEAR))
UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
_MICRO = 10**6
_DAY = 86_400
_SPREADSHEET_EPOCH = -25_569  # 30 December 1899 in days since 1970
_INT64 = 2**63 - 1
_FLOAT32_STEP = 128
_SCIENTIFIC = r"^[+-]?(\d)(?:\.(\d+))?[eE]\+(\d+)$"
_CALENDAR = {8: "%Y%m%d", 14: "%Y%m%d%H%M%S"}


@dataclass(frozen=True)
class Times:
    """A column of times.

    Attributes:
        microseconds: int64 since 1970 UTC, null where the value is not a time or impossible.
        unreadable: bool: there is a value, and it is not a time.
        form: What was recognised, in words.
    """

    microseconds: pl.Series
    unreadable: pl.Series
    form: str

    def seconds(self) -> pl.Series:
        """Returns int64 whole seconds since 1970 UTC, rounded down."""
        return self.microseconds // _MICRO


def recognise_times(values: pl.Series, form: TimeForm = "auto") -> Times:
    """Reads a column of times.

    A number has the unit in which it lies between 1990 and 2100; no two units share numbers. Text without a zone is
    UTC.

    Args:
        values: Integers, floats, text, dates or datetimes; nulls stay null.
        form: What the user states of it; `auto`: by the values.

    Raises:
        DataError: If the column does not hold times, or can be read in two ways; names what it holds.
    """
    if values.dtype.is_temporal():
        return _dated(values, unreadable=pl.repeat(False, len(values), eager=True), form=_temporal_form(values.dtype))
    if values.dtype.is_numeric():
        return _numbered(values, form, unreadable=pl.repeat(False, len(values), eager=True))
    text = values.cast(pl.String).str.strip_chars().replace("", None)
    numbers = _numbers(text)
    if 2 * numbers.count() > text.count():
        return _numbered(numbers, form, unreadable=text.is_not_null() & numbers.is_null())
    found = dated_texts(text, None if form == "auto" else form)
    if found is None:
        raise DataError(f"not a column of times: it holds {_shown(text)}; readable are numbers since 1970 in "
                        f"{', '.join(UNITS)}, and {READABLE}")  # fmt: skip
    return _dated(found.moments, unreadable=text.is_not_null() & found.moments.is_null(), form=found.form)


def _numbers(text: pl.Series) -> pl.Series:
    """Whole numbers where all are whole, so that nanoseconds keep their digits; else floats."""
    _check_digits(text)
    pointed = pl.DataFrame({"text": text}).select(point_for_comma(pl.col("text")))["text"]
    whole = pointed.cast(pl.Int64, strict=False)
    real = pointed.cast(pl.Float64, strict=False)
    return whole if whole.null_count() == real.null_count() else real


def _check_digits(text: pl.Series) -> None:
    """Stops at the scientific notation of spreadsheets, which rounds times to minutes or hours.

    Writers of all digits leave out zeros at the end, so that a number by itself may look rounded, but not all of them.
    """
    parts = text.str.replace(",", ".", literal=True).str.extract_groups(_SCIENTIFIC)
    exponent, digits = parts.struct[2].cast(pl.Int64, strict=False), parts.struct[1].str.len_chars().fill_null(0)
    # From 10^9 on these are moments in seconds, from 10^12 on in milliseconds, and so on; the second must be known.
    is_rough = (exponent - digits > (exponent // 3 - 3) * 3).filter((exponent >= 9).fill_null(False))
    if is_rough.len() and is_rough.all():
        raise DataError(
            f"not exact: it holds '{text.filter(exponent >= 9)[0]}', a number in scientific notation that lacks its "
            "last digits; export the times as whole numbers"
        )


def _numbered(numbers: pl.Series, form: TimeForm, *, unreadable: pl.Series) -> Times:
    if numbers.dtype.is_float():
        numbers = numbers.fill_nan(None)
    if form == "relative":
        return _relative(numbers, unreadable)
    if form in ("spreadsheet-days", "days"):
        first = _SPREADSHEET_EPOCH if form == "spreadsheet-days" else 0
        moments = ((numbers.cast(pl.Float64) + first) * _DAY * _MICRO).round(0).cast(pl.Int64, strict=False)
        return _dated(moments.cast(pl.Datetime("us")), unreadable=unreadable, form=f"{form.replace('-', ' ')}")
    if (calendar := _calendar(numbers)) is not None:
        moments, said = calendar
        return _dated(moments, unreadable=unreadable, form=said)
    return _counted(numbers, unreadable=unreadable)


def _relative(numbers: pl.Series, unreadable: pl.Series) -> Times:
    """Numbers that only say what is earlier, in a unit of their own: as they are, one to a second."""
    possible = numbers.set((numbers.abs() > _INT64 // _MICRO).fill_null(False), None)
    micro = (possible * _MICRO).round(0) if possible.dtype.is_float() else possible.cast(pl.Int64) * _MICRO
    return Times(micro.cast(pl.Int64, strict=False), unreadable, "numbers of a unit of their own: no dates are known")


def _calendar(numbers: pl.Series) -> tuple[pl.Series, str] | None:
    """Reads numbers whose digits are a date, such as 20240501 or 20240501123000, where all are."""
    known = numbers.drop_nulls()
    if not len(known) or not bool((known == known.cast(pl.Int64, strict=False)).fill_null(False).all()):
        return None
    texts = numbers.cast(pl.Int64, strict=False).cast(pl.String)
    for length, form in _CALENDAR.items():
        if bool((texts.drop_nulls().str.len_chars() == length).all()):
            moments = texts.str.to_datetime(form, strict=False, time_unit="us")
            inside = moments.dt.year().is_between(FIRST_YEAR, LAST_YEAR).fill_null(False)
            if int(inside.sum()) == len(known):
                ties = " (rows of one day are ties)" if length == min(_CALENDAR) else ""
                return moments, f"days written as {form.replace('%', '')}{ties}"
    return None


def _counted(numbers: pl.Series, *, unreadable: pl.Series) -> Times:
    inside = {
        unit: numbers.is_between(FIRST * per_second, LAST * per_second).fill_null(False)
        for unit, per_second in UNITS.items()
    }
    counts = {unit: int(mask.sum()) for unit, mask in inside.items() if mask.any()}
    if 2 * sum(counts.values()) < numbers.count() or not counts:
        raise DataError(_no_times(numbers))
    micro = pl.Series(numbers.name, [None], dtype=pl.Int64).extend_constant(None, len(numbers) - 1)
    for unit in counts:
        micro = micro.zip_with(~inside[unit], _in_microseconds(numbers, UNITS[unit]))
    if len(counts) == 1:
        form = f"{next(iter(counts))} since 1970"
    else:
        form = "numbers since 1970, " + " and ".join(f"{n:,} in {unit}" for unit, n in counts.items())
    if numbers.dtype == pl.Float32:
        form += f" (as float32, which rounds them to about {_FLOAT32_STEP} seconds)"
    return Times(micro, unreadable, form)


def _in_microseconds(numbers: pl.Series, per_second: int) -> pl.Series:
    """Returns int64 microseconds; numbers of other units may become anything."""
    possible = numbers.set(~numbers.is_between(FIRST * per_second, LAST * per_second).fill_null(False), None)
    if possible.dtype == pl.Float32:
        possible = possible.cast(pl.Float64)
    micro = possible // (per_second // _MICRO) if per_second > _MICRO else possible * (_MICRO // per_second)
    return micro.cast(pl.Int64)


def _no_times(numbers: pl.Series) -> str:
    middle = numbers.drop_nulls().median()
    message = (
        f"not a column of times: its median {middle} is not a date between {FIRST_YEAR} and {LAST_YEAR} in any "
        f"supported unit since 1970 ({', '.join(UNITS)})"
    )
    if not isinstance(middle, int | float):
        return message
    meant = []
    for form, epoch in (("spreadsheet-days", _SPREADSHEET_EPOCH), ("days", 0)):
        if FIRST <= (middle + epoch) * _DAY <= LAST:
            day = datetime.fromtimestamp((middle + epoch) * _DAY, UTC).date()
            meant.append(f"`{form}` (its median is then {day})")
    meant.append("`relative` (numbers of a unit of their own)")
    return f"{message}. Say what they are with `times`: {', '.join(meant)}"


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


def _shown(text: pl.Series) -> str:
    return ", ".join(repr(each[:40]) for each in text.drop_nulls().unique(maintain_order=True).head(3))
