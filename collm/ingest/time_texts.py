"""Dates and times written as text -> moments: ISO, spreadsheets, mails, log files.

Of `03/04/2024` the column's other values show which number is the month: one above 12 is a day.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from collm.errors import DataError

READABLE = (
    "ISO text such as 2024-05-01 or 2024-05-01T12:30:00Z, 31.05.2024 12:30, 05/31/2024 12:30 PM, 31 May 2024 or "
    "May 31, 2024"
)
_ZONED = ("%Y-%m-%dT%H:%M:%S%.f%z", "%Y-%m-%dT%H:%M%z")
_BARE = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d")
_WORDS = (
    *("%d %b %Y", "%d %B %Y", "%b %d %Y", "%B %d %Y", "%d-%b-%Y", "%d %b %YT%H:%M:%S", "%b %d %YT%H:%M:%S"),
    *("%d %b %YT%H:%M", "%b %d %YT%H:%M"),
)
_WORDS_ZONED = ("%a %d %b %YT%H:%M:%S%z", "%d %b %YT%H:%M:%S%z", "%a %b %dT%H:%M:%S%z %Y", "%d/%b/%Y:%H:%M:%S%z")
_NUMBERED = r"^(\d{1,2})([./-]) ?(\d{1,2})[./-] ?(\d{4}|\d{2})(?:[T ,]+(.*))?$"
_AMAZON_DAY = r"^(\d{2}) (\d{1,2}), (\d{4})$"
_MOST_MONTHS = 12
_DAY_LENGTH = 10
_SHORT_YEAR, _CENTURY = 2, "20"


@dataclass(frozen=True)
class Dated:
    """Datetimes in UTC, null where the text is none, and what was recognised, in words."""

    moments: pl.Series
    form: str


def dated_texts(text: pl.Series, form: str | None) -> Dated | None:
    """Reads a column of dates.

    Args:
        text: Without surrounding blanks; null where there is no value.
        form: `day-first` or `month-first` where the user states it; None = by the values.

    Returns:
        The moments, or None where most values are not dates.

    Raises:
        DataError: If day and month cannot be distinguished, or both orders are there.
    """
    numbered = text.str.contains(_NUMBERED) & ~text.str.contains(r"^\d{4}")
    said = ""
    if 2 * int(numbered.sum()) > text.count():
        text, said = _year_first(text, form)
    moments = _moments(text)
    if 2 * moments.count() <= text.count():
        return None
    if said:
        return Dated(moments, f"dates with the {said}, UTC where no zone is given")
    only_days = bool((text.drop_nulls().str.len_chars() <= _DAY_LENGTH).all())
    return Dated(moments, "ISO days (rows of one day are ties)" if only_days else _text_form(text))


def _text_form(text: pl.Series) -> str:
    kind = "ISO text" if bool(text.str.contains(r"^\d{4}\D").all()) else "dates in words"
    return f"{kind}, UTC where no zone is given"


def _year_first(text: pl.Series, form: str | None) -> tuple[pl.Series, str]:
    """Writes 31.05.2024 and 05/31/2024 as 2024-05-31."""
    parts = text.str.extract_groups(_NUMBERED)
    order = form or _order(text, parts)
    day, month = (0, 2) if order == "day-first" else (2, 0)
    fields = pl.DataFrame({"text": text}).with_columns(
        year=pl.when(parts.struct[3].str.len_chars() == _SHORT_YEAR)
        .then(_CENTURY + parts.struct[3])
        .otherwise(parts.struct[3]),
        month=parts.struct[month].str.zfill(2),
        day=parts.struct[day].str.zfill(2),
        time=parts.struct[4].fill_null(""),
    )
    date = pl.concat_str("year", pl.lit("-"), "month", pl.lit("-"), "day")
    timed = pl.when(pl.col("time") != "").then(pl.concat_str(date, pl.lit(" "), "time")).otherwise(date)
    return fields.select(pl.coalesce(timed, "text"))["year"], order.replace("-", " ")


def _order(text: pl.Series, parts: pl.Series) -> str:
    """Returns which of the first two numbers is the month, where the values leave no doubt.

    Raises:
        DataError: If they do.
    """
    first, second = (parts.struct[place].cast(pl.Int64) for place in (0, 2))
    day_first, month_first = (values > _MOST_MONTHS for values in (first, second))
    if day_first.any() and month_first.any():
        one, other = (text.filter(mask.fill_null(False))[0] for mask in (day_first, month_first))
        raise DataError(
            f"not in one order: it holds {one!r}, which has the day first, and {other!r}, which has the month first"
        )
    # A point is used where the day comes first; a year of two digits may come first, too.
    short_years = bool((parts.struct[3].str.len_chars() == _SHORT_YEAR).any())
    if bool((parts.struct[1] == ".").all()) or (day_first.any() and not short_years):
        return "day-first"
    if month_first.any():
        return "month-first"
    raise DataError(
        f"not clear: it holds {text.drop_nulls()[0]!r}, and no value says which number is the month. Say it with "
        "`times`: `day-first` or `month-first`"
    )


def _moments(text: pl.Series) -> pl.Series:
    column = pl.col("text")
    amazon = column.str.replace(_AMAZON_DAY, "${3}-${1}-${2}")
    # One form for all: dashes, two digits, a T between day and time, a zone that is an offset of four digits.
    even = (
        amazon.str.replace(r"^(\d{4})[/.](\d{1,2})[/.](\d{1,2})", "${1}-${2}-${3}")
        .str.replace(r"^(\d{4})-(\d)-", "${1}-0${2}-")
        .str.replace(r"^(\d{4}-\d{2})-(\d)($|\D)", "${1}-0${2}${3}")
        .str.replace(r"(?:\s+|t)(\d{1,2}:\d{2})", "T${1}")
        .str.replace(r"T(\d):", "T0${1}:")
        .str.replace(r"(:\d{2}(?:[.,]\d+)?)\s*(Z|z|UTC|GMT)$", "${1}+0000")
        .str.replace(r"(:\d{2}(?:[.,]\d+)?)\s*([+-]\d{2})$", "${1}${2}00")
        .str.replace(r"(:\d{2}(?:[.,]\d+)?)\s*([+-]\d{2}):?(\d{2})( \d{4})?$", "${1}${2}${3}${4}")
        .str.replace(r"(:\d{2}),(\d+)", "${1}.${2}")
    )
    words = even.str.replace_all(r"[,.]", " ").str.replace_all(r"\s+", " ").str.replace(r"\s*T(\d{2}:)", "T${1}")
    half = r"T(\d{2}:\d{2}(?::\d{2})?)\s*([AaPp])\.?[Mm]\.?$"
    halved = pl.concat_str(even.str.replace(half, "T${1} "), even.str.extract(half, 2).str.to_uppercase(), pl.lit("M"))
    options = [
        *(even.str.to_datetime(form, strict=False, time_unit="us", time_zone="UTC") for form in _ZONED),
        *(_bare(even, form) for form in _BARE),
        *(_bare(halved, form) for form in ("%Y-%m-%dT%I:%M:%S %p", "%Y-%m-%dT%I:%M %p")),
        *(words.str.to_datetime(form, strict=False, time_unit="us", time_zone="UTC") for form in _WORDS_ZONED),
        *(_bare(words, form) for form in _WORDS),
    ]
    return pl.DataFrame({"text": text}).select(pl.coalesce(options).alias("moment"))["moment"]


def _bare(text: pl.Expr, form: str) -> pl.Expr:
    return text.str.to_datetime(form, strict=False, time_unit="us").dt.replace_time_zone("UTC")
