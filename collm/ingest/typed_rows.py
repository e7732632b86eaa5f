"""Text or loosely typed columns -> the wanted types; values that do not fit make their row a bad one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import polars as pl

from collm.ingest.bad_rows import BadRows

LINE = "line"
# 4,5 and 1,6E+09, as spreadsheets of many countries write them. A comma before three digits may mark thousands instead.
_DECIMAL_COMMA = r"^\s*[+-]?(\d+,\d{1,2}|\d+,\d{4,}|\d{4,},\d+|0,\d+|\d+,\d+[eE][+-]?\d+)\s*$"
_EITHER_COMMA = r"^\s*[+-]?[1-9]\d{0,2},\d{3}\s*$"


def typed_rows(
    raw: pl.DataFrame,
    *,
    dtypes: Mapping[str, pl.DataType],
    required: Sequence[str],
    file: str,
    bad: BadRows,
    text_of: Callable[[int], str],
    ids: Sequence[str] = (),
) -> pl.DataFrame:
    """Casts columns and takes out the rows that do not fit.

    Text is stripped of surrounding blanks, except that of ids; empty text is a missing value. Where a number is wanted,
    `4,5` is 4.5.

    Args:
        raw: The columns of `dtypes`, and `line` int64.
        dtypes: Column -> wanted type.
        required: Columns that must have a value in every row.
        file: File name for the bad rows.
        bad: Takes them.
        text_of: Position in `raw` -> the row as found.
        ids: Columns whose text is kept as it stands.

    Returns:
        The usable rows in their order: the columns of `dtypes`, then `line`.
    """
    texts = [name for name in dtypes if raw.schema[name] == pl.String]
    clean = raw.with_columns(
        pl.when(pl.col(name).str.strip_chars() != "").then(
            pl.col(name) if name in ids else pl.col(name).str.strip_chars()
        )
        for name in texts
    )
    numbers = [name for name in texts if dtypes[name].is_numeric()]
    pointed = clean.with_columns(point_for_comma(pl.col(name)) for name in numbers)
    typed = pointed.select(*(pl.col(name).cast(dtype, strict=False) for name, dtype in dtypes.items()), LINE)
    either = {name: clean[name].str.contains(_EITHER_COMMA) for name in numbers}
    faults = [
        pl.when(clean[name].is_not_null() & typed[name].is_null()).then(
            pl.when(either[name])
            .then(pl.lit(f"{name} has a comma that may mark decimals or thousands"))
            .otherwise(pl.lit(f"{name} is not {_kind(dtype)}"))
            if name in either
            else pl.lit(f"{name} is not {_kind(dtype)}")
        )
        for name, dtype in dtypes.items()
    ]
    faults += [pl.when(clean[name].is_null()).then(pl.lit(f"{name} is missing")) for name in required]
    return without(typed, pl.coalesce(*faults), file=file, bad=bad, text_of=text_of)


def point_for_comma(text: pl.Expr) -> pl.Expr:
    """Returns numbers written with a decimal comma with a point; other text as it is."""
    return pl.when(text.str.contains(_DECIMAL_COMMA)).then(text.str.replace(",", ".", literal=True)).otherwise(text)


def without(
    frame: pl.DataFrame, fault: pl.Expr, *, file: str, bad: BadRows, text_of: Callable[[int], str]
) -> pl.DataFrame:
    """Takes out and notes the rows that have a fault.

    Args:
        frame: Rows with `line`.
        fault: Expression over `frame`: the reason, null where the row is sound.
        file: File name for the bad rows.
        bad: Takes them.
        text_of: Position in `frame` -> the row as found.
    """
    reasons = frame.select(fault.alias("reason"))["reason"]
    if reasons.null_count() == frame.height:
        return frame
    for place in reasons.is_not_null().arg_true().to_list():
        bad.add(file, int(frame[LINE][place]), reasons[place], text_of(place))
    return frame.filter(reasons.is_null())


def _kind(dtype: pl.DataType) -> str:
    if dtype.is_integer():
        return "a whole number"
    if dtype.is_numeric():
        return "a number"
    return "text" if dtype == pl.String else f"a {dtype}"
