"""Values of JSON objects with their types kept: many lines at once with polars, or one line with `json`.

Both ways agree: of a key given twice the first value counts, NaN and Infinity are no JSON, and a text with half a
surrogate pair is no text. polars itself would turn `3` into "3" where text is wanted; such values are looked for.
"""

from __future__ import annotations

import ast
import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

_AT_ONCE = (pl.String, pl.Float64, pl.Int64, pl.Boolean)
# What polars makes of a number, a list, an object, true, false, or half a surrogate pair (a zero character).
_DOUBTFUL = r"^(-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?|true|false|\[(?s:.)*|\{(?s:.)*)$|\x00"
_INT64 = 2**63
_LONGEST_LITERAL = 1 << 20


def parse_json(text: str) -> Any:
    """Reads one JSON value strictly.

    Raises:
        ValueError: If it is no JSON.
    """
    return json.loads(text, object_pairs_hook=_first_wins, parse_constant=_refuse)


def json_or_literal(text: str) -> Any:
    """Reads a line of JSON, or of a Python literal as old dumps of Amazon and Steam hold; nothing of it is run.

    Raises:
        ValueError: If it is neither, or a literal of more than 1 MB.
    """
    try:
        return parse_json(text)
    except ValueError:
        if len(text) > _LONGEST_LITERAL:
            raise
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of backslashes in text
            return ast.literal_eval(text)
    except (SyntaxError, TypeError, MemoryError) as error:
        raise ValueError("neither JSON nor a Python literal") from error


def read_at_once(
    texts: Sequence[str], fields: Mapping[str, Sequence[str]], dtypes: Mapping[str, pl.DataType]
) -> pl.DataFrame | None:
    """Reads lines with polars.

    Args:
        texts: One JSON object each, without line ends or blank ones among them.
        fields: Column -> keys; in each line the first key with a value is taken.
        dtypes: Column -> type.

    Returns:
        The columns of `fields`, one row per line; None where some line needs a closer look.
    """
    schema: dict[str, pl.DataType] = {}
    for name, keys in fields.items():
        for key in keys:
            if schema.setdefault(key, dtypes[name]) != dtypes[name]:
                return None
    if any(dtype not in _AT_ONCE for dtype in schema.values()):
        return None
    try:
        raw = pl.read_ndjson("\n".join(texts).encode(), schema=schema)
    except pl.exceptions.PolarsError:
        return None
    if raw.height != len(texts) or not _texts_are_text(raw, texts):
        return None
    return raw.select(pl.coalesce(*keys).alias(name) for name, keys in fields.items())


def fits(value: Any, dtype: pl.DataType) -> bool:
    """Whether a value from `json` is of a type, so that no cast can lose it."""
    if dtype == pl.String:
        return isinstance(value, str) and _encodable(value)
    if dtype == pl.Boolean:
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        return False
    return not dtype.is_integer() or (-_INT64 <= value < _INT64 and value == int(value))


def kind_of(dtype: pl.DataType) -> str:
    """Returns what values of a type are called in messages."""
    if dtype == pl.String:
        return "text"
    if dtype == pl.Boolean:
        return "true or false"
    return "a whole number" if dtype.is_integer() else "a number"


def _texts_are_text(raw: pl.DataFrame, texts: Sequence[str]) -> bool:
    """Whether every value in a text column was text in the file."""
    lines: pl.Series | None = None
    for key, dtype in raw.schema.items():
        if dtype != pl.String:
            continue
        doubtful = raw[key].str.contains(_DOUBTFUL).fill_null(False).arg_true()
        if not len(doubtful):
            continue
        lines = pl.Series("line", texts) if lines is None else lines
        # As most writers put it; the few lines in which it does not stand like that, and once, are parsed.
        line, quoted = pl.col("line"), json.dumps(key)
        found = pl.DataFrame({"line": lines[doubtful], "value": raw[key][doubtful]}).select(
            pl.any_horizontal(
                line.str.contains(pl.lit(f'{quoted}:{blank}"') + pl.col("value") + '"', literal=True)
                for blank in ("", " ")
            )
            & (line.str.count_matches(quoted, literal=True) == 1)
        )
        unsure = doubtful.filter(~found.to_series())
        if not all(_is_text(texts[place], key) for place in unsure.to_list()):
            return False
    return True


def _is_text(line: str, key: str) -> bool:
    try:
        value = parse_json(line)[key]
    except (ValueError, RecursionError, KeyError, TypeError):
        return False
    return isinstance(value, str) and _encodable(value)


def _encodable(value: str) -> bool:
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def _first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        content.update(reversed(pairs))
    return content


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
