"""JSON-lines files, plain or gz -> typed columns and line numbers; every line that does not fit is a bad row.

A line is decoded strictly into the wanted fields; one that cannot be is read with `json` to find out why. Both ways
agree: of a key given twice the first value counts, NaN and Infinity are not JSON, and a text with half a surrogate pair
is not text. Read in chunks: memory holds the wanted columns and one chunk of text. Blank lines hold no data.
"""

from __future__ import annotations

import ast
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any

import msgspec
import polars as pl

from collm.errors import DataError
from collm.ingest.bad_rows import BadRows
from collm.ingest.ids import id_text
from collm.ingest.text_lines import TextLines
from collm.ingest.typed_rows import LINE, WantedColumns, kind_of, typed_rows

_SHOWN_KEYS = 12
_INT64 = 2**63
_LONGEST_LITERAL = 1 << 20
_Id = str | int | float | None
_Int64 = Annotated[int, msgspec.Meta(ge=-_INT64, le=_INT64 - 1)] | None

Parser = Callable[[str], Any]


def parse_json(text: str) -> Any:
    """Reads one JSON value strictly.

    Raises:
        ValueError: If it is not JSON.
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


def read_json_lines(
    path: Path,
    wanted: WantedColumns,
    *,
    bad: BadRows,
    encoding: str | None = None,
    chunk_bytes: int = 16 << 20,
    where: pl.Expr | None = None,
    parse: Parser = parse_json,
) -> pl.DataFrame:
    """Reads the wanted fields of one JSON object per line.

    A value must have the wanted type as JSON: a number in quotes is not a number, and a number is not text. A whole
    float is accepted where an integer is wanted. Ids may be text or numbers. In each line the first of a column's names
    that has a value is taken.

    Args:
        path: The file; gz is known by its first bytes.
        wanted: Columns to read.
        bad: Takes the rows that cannot be used, with line and reason.
        encoding: Of lines that are not UTF-8; None = they are bad rows.
        chunk_bytes: About this much text is held at once.
        where: Expression over the result's columns; rows for which it is not true are dropped chunk by chunk, so that
            a small part of a large file needs little memory.
        parse: Reads a line that is not plain JSON; raises `ValueError` where it cannot.

    Returns:
        The wanted columns and `line` int64.

    Raises:
        DataError: If the file cannot be read, or no line has a value for a required column.
    """
    reader = _Reader(path, wanted, bad, parse)
    chunks = [
        rows if where is None else rows.filter(where)
        for rows in map(reader.rows, _chunks(path, bad, chunk_bytes, encoding))
    ]
    return pl.concat(chunks) if chunks else wanted.no_rows()


def read_records(
    path: Path, records: Sequence[Any], wanted: WantedColumns, *, bad: BadRows, parse: Parser = parse_json
) -> pl.DataFrame:
    """Does what `read_json_lines` does with the records of a file that holds one JSON value; `line` is their number.

    Raises:
        DataError: If no record has a value for a required column.
    """
    reader = _Reader(path, wanted, bad, parse)
    return reader.rows(list(enumerate(records, start=1))) if records else wanted.no_rows()


class _Reader:
    """Turns lines or records into columns."""

    def __init__(self, path: Path, wanted: WantedColumns, bad: BadRows, parse: Parser) -> None:
        self._path, self._wanted, self._bad, self._parse = path, wanted, bad, parse
        self._line = _Line(wanted)
        self._is_first = True

    def rows(self, lines: Sequence[tuple[int, Any]]) -> pl.DataFrame:
        """Returns the usable rows of some lines: number, and text or record."""
        kept, numbers, found = [], [], []
        for (number, text), decoded in zip(lines, self._line.decoded([text for _, text in lines]), strict=True):
            line = self._one_by_one(number, text) if decoded is None else decoded
            if line is not None:
                kept.append(text)
                numbers.append(number)
                found.append(line)
        columns = [
            pl.Series(name, self._line.column(name, found), dtype=dtype, strict=False)
            for name, dtype in self._wanted.types().items()
        ]
        raw = pl.DataFrame([*columns, pl.Series(LINE, numbers, dtype=pl.Int64)])
        if self._is_first:
            self._check_has(raw, lines)
            self._is_first = False
        return typed_rows(raw, self._wanted, file=self._path.name, bad=self._bad, text_of=lambda at: str(kept[at]))

    def _one_by_one(self, number: int, text: Any) -> Any | None:
        """Returns the object of a line or record; None where it is a bad row, which is noted."""
        values, fault = self._values(number, text)
        if fault:
            self._bad.add(self._path.name, number, fault, str(text))
            return None
        return self._line.of(values)

    def _values(self, number: int, text: Any) -> tuple[list[Any], str]:
        """Returns the wanted values of a line or record, and what is wrong with it."""
        try:
            content = self._parse(text) if isinstance(text, str) else text
        except (ValueError, RecursionError):
            return [], "not JSON"
        if not isinstance(content, dict):
            return [], "not a JSON object"
        values: list[Any] = []
        for name, keys in self._wanted.names.items():
            value = next((content[key] for key in keys if content.get(key) is not None), None)
            if value is not None and name in self._wanted.ids:
                value = id_text(value, name=name, place=f"{self._path}:{number}")
                if value is None or not _fits(value, pl.String()):
                    return [], f"{name} is not text or a number"
            elif value is not None and not _fits(value, self._wanted.dtypes[name]):
                return [], f"{name} is not {kind_of(self._wanted.dtypes[name])}"
            values.append(value)
        return values, ""

    def _check_has(self, raw: pl.DataFrame, lines: Sequence[tuple[int, Any]]) -> None:
        """Stops where a required column has no value in any of the first rows: its name in this file is another."""
        for name in self._wanted.required:
            if raw.height and raw[name].null_count() == raw.height:
                keys = " or ".join(f"'{key}'" for key in self._wanted.names[name])
                raise DataError(f"{self._path}: no line has {keys} ({name}); the first has {self._keys(lines)}")

    def _keys(self, lines: Sequence[tuple[int, Any]]) -> str:
        for _, text in lines:
            try:
                content = self._parse(text) if isinstance(text, str) else text
            except (ValueError, RecursionError):
                continue
            if isinstance(content, dict):
                return ", ".join(list(content)[:_SHOWN_KEYS]) + (", ..." if len(content) > _SHOWN_KEYS else "")
        return "nothing"


class _Line:
    """The wanted values of a line as an object with one attribute for each name that a column may have."""

    def __init__(self, wanted: WantedColumns) -> None:
        self._attributes = {
            name: [f"column_{place}_{which}" for which in range(len(keys))]
            for place, (name, keys) in enumerate(wanted.names.items())
        }
        types = {name: _Id if name in wanted.ids else _json_type(wanted.dtypes[name]) for name in wanted.names}
        fields = [
            (attribute, types[name] | msgspec.UnsetType, msgspec.UNSET)
            for name, attributes in self._attributes.items()
            for attribute in attributes
        ]
        keys = [key for keys in wanted.names.values() for key in keys]
        self._key_of = dict(zip([attribute for attribute, *_ in fields], keys, strict=True))
        # A key that two columns want cannot be decoded into both.
        self._decodes = len(set(keys)) == len(keys)
        self._type = msgspec.defstruct("Line", fields, rename=self._key_of if self._decodes else None)
        self._ids = [attribute for name in wanted.ids for attribute in self._attributes[name]]

    def of(self, values: Sequence[Any]) -> Any:
        """Returns the object of a line of which the values are known, one for each column."""
        first = [attributes[0] for attributes in self._attributes.values()]
        return self._type(**dict(zip(first, values, strict=True)))

    def decoded(self, texts: Sequence[Any]) -> list[Any]:
        """Decodes lines strictly; gives None for one that does not fit or may hold a key twice, and for a record."""
        if not self._decodes or not texts or not isinstance(texts[0], str):
            return [None] * len(texts)
        decode = msgspec.json.Decoder(self._type).decode
        found: list[Any] = []
        for text in texts:
            try:
                found.append(decode(text))
            except (msgspec.MsgspecError, ValueError, RecursionError):
                found.append(None)
        lines = [line for line in found if line is not None]
        content = "\n".join(text for text, line in zip(texts, found, strict=True) if line is not None)
        for attribute, key in self._key_of.items():
            quoted = json.dumps(key, ensure_ascii=False)
            n_present = len(lines) - list(map(attrgetter(attribute), lines)).count(msgspec.UNSET)
            if content.count(quoted) != n_present:
                found = [None if text.count(quoted) > 1 else line for text, line in zip(texts, found, strict=True)]
        for of in map(attrgetter, self._ids):
            found = [None if line is not None and type(of(line)) is float else line for line in found]
        return found

    def column(self, name: str, lines: Sequence[Any]) -> list[Any]:
        """Returns a column of some lines, ids as text."""
        first, *others = self._attributes[name]
        values = [None if value is msgspec.UNSET else value for value in map(attrgetter(first), lines)]
        for other in others:
            if None in values:
                given = [None if value is msgspec.UNSET else value for value in map(attrgetter(other), lines)]
                values = [more if value is None else value for value, more in zip(values, given, strict=True)]
        return [str(value) if type(value) is int else value for value in values] if first in self._ids else values


def _json_type(dtype: pl.DataType) -> Any:
    if dtype == pl.String:
        return str | None
    if dtype == pl.Boolean:
        return bool | None
    return _Int64 if dtype.is_integer() else float | None


def _fits(value: Any, dtype: pl.DataType) -> bool:
    """Whether a value from `json` is of a type, so that no cast can lose it."""
    if dtype == pl.String:
        return isinstance(value, str) and (value.isascii() or not any("\ud800" <= each <= "\udfff" for each in value))
    if dtype == pl.Boolean:
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        return False
    return not dtype.is_integer() or (-_INT64 <= value < _INT64 and value == int(value))


def _first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        content.update(reversed(pairs))
    return content


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _chunks(path: Path, bad: BadRows, chunk_bytes: int, encoding: str | None) -> Iterator[list[tuple[int, str]]]:
    """Gives line numbers and texts; a line that is not UTF-8 is noted and left out, a blank one left out."""
    lines = TextLines(path, bad=bad, encoding=encoding)
    chunk: list[tuple[int, str]] = []
    size = 0
    for number, text in lines:
        if not text or text.isspace():
            continue
        if lines.broken and number in lines.broken:
            shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            bad.add(path.name, number, "not UTF-8 text", shown)
            continue
        chunk.append((number, text))
        size += len(text)
        if size >= chunk_bytes:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
