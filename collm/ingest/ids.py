"""Ids of users and items as text that stays what it was: equal ids stay one, different ones never become one.

Ids are compared as text. Writers spell one number in several ways (`37`, `37.0`, `3.7e+01`), so a whole number is
brought to its digits where no other id is hurt. Where a file has lost the digits in which ids differ (a float beyond
2^53, the scientific notation of spreadsheets), or spells one number in two ways, there is an error that names the line.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from collm.errors import DataError

# What writers put where a value is missing; as an id it would make one user or item of all rows without one.
MISSING_WORDS = (
    *("nan", "NaN", "NAN", "-nan", "-NaN", "null", "Null", "NULL", "none", "None", "NONE", "NA", "N/A", "n/a", "#N/A"),
    *("<NA>", "<null>", "NaT", "nil", "\\N", "undefined", "inf", "-inf", "Infinity", "-Infinity"),
)
# Of floats by their bits: the first whole number from which on neighbours cannot be distinguished.
_FIRST_LOST = {pl.Float32: 2**24, pl.Float64: 2**53}
_CONTROL = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
_FRACTION = r"^[+-]?\d+\.\d*[1-9]\d*$"
_WHOLE_FLOAT = re.compile(r"([+-]?\d+)(?:\.0+|,0)")
_SCIENTIFIC = re.compile(r"([+-]?)(\d)(?:\.(\d+))?[eE](?:\+(\d{1,4})|(\d{1,4}))")
# R writes 100000 as 1e+05.
_R_EXPONENT = 5
_EXACT_DIGITS = len(str(2**53))
_SHOWN_CHARACTERS = 40


def id_texts(values: pl.Series, lines: pl.Series, *, name: str, path: Path) -> pl.Series:
    """Writes a typed column of ids of a parquet file as text; nulls and NaN stay missing values.

    Raises:
        DataError: If a float may have lost digits, bytes are not text, or the type holds no ids.
    """
    dtype = values.dtype
    if dtype.is_float():
        return _float_texts(values, lines, name=name, path=path)
    if dtype == pl.Binary:
        return pl.Series(
            values.name,
            [_decoded(value, f"{path}:{line}", name) for value, line in zip(values, lines, strict=True)],
            dtype=pl.String,
        )
    if dtype.is_decimal():
        return values.cast(pl.String).str.replace(r"(\.\d*?)0+$", "${1}").str.strip_suffix(".")
    if dtype.is_integer() or dtype in (pl.String, pl.Null) or isinstance(dtype, pl.Categorical | pl.Enum):
        return values.cast(pl.String)
    raise DataError(f"{path}: column '{name}' holds {dtype}; ids are text or whole numbers")


def id_text(value: Any, *, name: str, place: str) -> str | None:
    """Writes one value of a JSON file as text; `place` is file and line.

    Returns:
        The text; None where the value is neither text nor a finite number.

    Raises:
        DataError: If it is a float that may have lost digits.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int):
        return str(value)
    if not abs(value) < float("inf"):
        return None
    if abs(value) >= _FIRST_LOST[pl.Float64]:
        raise DataError(f"{place}: {_lost_float(name, repr(value), 53)}")
    return str(int(value)) if value == int(value) else repr(value)


def one_spelling(ids: pl.Series, lines: pl.Series, *, name: str, path: Path) -> pl.Series:
    """Brings ids that are whole numbers to their digits and takes off blanks.

    Returns:
        The ids; those of a column with fractions keep their `.0`.

    Raises:
        DataError: If two spellings become one, or digits are lost; names lines.
    """
    distinct = ids.unique().drop_nulls()
    has_fractions = bool(distinct.str.contains(_FRACTION).any())
    doubtful = distinct.filter(distinct.str.contains(r"^[+-]?\d[\d.,]*([eE]\+?\d+)?$|^[\s\uFEFF]|[\s\uFEFF]$"))
    new: dict[str, str] = {}
    for old in doubtful.to_list():
        try:
            digits = _digits(_bare(old), has_fractions)
        except _LostError as error:
            raise DataError(f"{path}:{_line(old, ids, lines)}: {_lost(name, old, str(error))}") from error
        if digits != old:
            new[old] = digits
    if not new:
        return ids
    _check_apart(new, distinct, ids, lines, name=name, path=path)
    return ids.replace(list(new), list(new.values()))


def id_fault(column: str) -> pl.Expr:
    """Returns the reason why an id cannot be meant, null where it can."""
    text = pl.col(column)
    return (
        pl.when(text.is_in(MISSING_WORDS))
        .then(pl.format(f"{column} is '{{}}', a word for a missing value", text))
        .when(text.str.contains(_CONTROL))
        .then(pl.lit(f"{column} holds a NUL or another control character"))
    )


def _bare(text: str) -> str:
    """Takes off blanks and byte-order marks, which files written one after another carry along."""
    return text.strip().strip("\ufeff").strip()


class _LostError(ValueError):
    """A number is written with fewer digits than it has."""


def _digits(text: str, has_fractions: bool) -> str:
    if match := _WHOLE_FLOAT.fullmatch(text):
        _check_exact(match.group(1))
        return text if has_fractions else match.group(1)
    match = _SCIENTIFIC.fullmatch(text)
    # `1e5` may be a code such as a hash; a sign after the e, or a point before it, is written for numbers only.
    if match is None or (match.group(3) is None and match.group(4) is None):
        return text
    sign, first, rest, signed, bare = match.groups(default="")
    exponent, digits = int(signed or bare), first + rest
    n_missing = exponent + 1 - len(digits)
    is_short_in_r = len(digits) == 1 and exponent == _R_EXPONENT
    # Without a sign (Java, Spark) all digits of the number are written, zeros at the end left out.
    if n_missing > 0 and signed and not is_short_in_r:
        raise _LostError(f"scientific notation that shows {len(digits)} of its {exponent + 1} digits")
    if n_missing < 0 and digits[exponent + 1 :].strip("0"):
        return text
    whole = digits[: exponent + 1].ljust(exponent + 1, "0").lstrip("0") or "0"
    _check_exact(whole)
    return sign.replace("+", "") + whole


def _check_exact(whole: str) -> None:
    digits = whole.lstrip("+-0")
    if len(digits) > _EXACT_DIGITS or (len(digits) == _EXACT_DIGITS and int(digits) >= _FIRST_LOST[pl.Float64]):
        raise _LostError("a float, which holds whole numbers exactly only below 2^53")


def _check_apart(
    new: dict[str, str], distinct: pl.Series, ids: pl.Series, lines: pl.Series, *, name: str, path: Path
) -> None:
    """Stops where two spellings, both in the file, become one id."""
    old_of: dict[str, str] = {}
    taken = set(distinct.filter(distinct.is_in(list(new.values()))).to_list()) - set(new)
    for old, text in new.items():
        other = text if text in taken else old_of.get(text)
        if other is not None:
            first, second = sorted((_line(each, ids, lines), each) for each in (old, other))
            raise DataError(
                f"{path}: column '{name}' holds {_quoted(first[1])} (line {first[0]}) and {_quoted(second[1])} (line "
                f"{second[0]}): one id in two spellings, or two ids? Write one id always alike, and different ids so "
                "that they differ in more than blanks or '.0'"
            )
        old_of[text] = old


def _float_texts(values: pl.Series, lines: pl.Series, *, name: str, path: Path) -> pl.Series:
    bits = 24 if values.dtype == pl.Float32 else 53
    values = values.fill_nan(None)
    lost = (values.abs() >= _FIRST_LOST.get(type(values.dtype), 2**11)).fill_null(False).arg_true()
    if len(lost):
        place = int(lost[0])
        raise DataError(f"{path}:{lines[place]}: {_lost_float(name, repr(values[place]), bits)}")
    if not bool((values == values.round(0)).all()):
        return pl.Series(values.name, [None if value is None else repr(value) for value in values], dtype=pl.String)
    return values.cast(pl.Int64).cast(pl.String)


def _decoded(value: bytes | None, place: str, name: str) -> str | None:
    try:
        return None if value is None else value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: column '{name}' holds bytes that are not UTF-8 text") from error


def _lost_float(name: str, shown: str, bits: int) -> str:
    return _lost(name, shown, f"a float, which holds whole numbers exactly only below 2^{bits} = {2**bits:,}")


def _lost(name: str, shown: str, how: str) -> str:
    return (
        f"'{name}' is {shown[:_SHOWN_CHARACTERS]}: {how}, so different ids may have become one in this file. "
        "Write the ids again, from where they were whole, as whole numbers or text"
    )


def _line(text: str, ids: pl.Series, lines: pl.Series) -> int:
    return int(lines[int(np.flatnonzero((ids == text).fill_null(False).to_numpy())[0])])


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "...")
