"""Text or loosely typed columns -> the wanted types; values that do not fit make their row a bad one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import polars as pl

from collm.data.bad_rows import BadRows

LINE = "line"


def typed_rows(
    raw: pl.DataFrame,
    *,
    dtypes: Mapping[str, pl.DataType],
    required: Sequence[str],
    file: str,
    bad: BadRows,
    text_of: Callable[[int], str],
) -> pl.DataFrame:
    """Casts columns and takes out the rows that do not fit.

    Text is stripped of surrounding blanks; empty text is a missing value.

    Args:
        raw: The columns of `dtypes`, and `line` int64.
        dtypes: Column -> wanted type.
        required: Columns that must have a value in every row.
        file: File name for the bad rows.
        bad: Takes them.
        text_of: Position in `raw` -> the row as found.

    Returns:
        The usable rows in their order: the columns of `dtypes`, then `line`.
    """
    clean = raw.with_columns(
        pl.col(name).str.strip_chars().replace("", None) for name in dtypes if raw.schema[name] == pl.String
    )
    typed = clean.select(*(pl.col(name).cast(dtype, strict=False) for name, dtype in dtypes.items()), LINE)
    faults = [
        pl.when(clean[name].is_not_null() & typed[name].is_null()).then(pl.lit(f"{name} is not {_kind(dtype)}"))
        for name, dtype in dtypes.items()
    ]
    faults += [pl.when(clean[name].is_null()).then(pl.lit(f"{name} is missing")) for name in required]
    return without(typed, pl.coalesce(*faults), file=file, bad=bad, text_of=text_of)


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
