"""JSON-lines files, plain or gz -> typed columns and line numbers; every line that does not fit is a bad row.

Read in pieces: memory holds the wanted columns and one piece of text. Blank lines hold no data and are passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from collm.errors import DataError
from collm.ingest.bad_rows import BadRows
from collm.ingest.ids import id_text
from collm.ingest.json_values import fits, kind_of, parse_json, read_at_once
from collm.ingest.text_lines import TextLines
from collm.ingest.typed_rows import LINE, typed_rows

_SHOWN_KEYS = 12
_EXACT = 2**53


def read_json_lines(
    path: Path,
    *,
    fields: Mapping[str, Sequence[str]],
    dtypes: Mapping[str, pl.DataType],
    required: Sequence[str],
    bad: BadRows,
    ids: Sequence[str] = (),
    encoding: str | None = None,
    chunk_bytes: int = 16 << 20,
    where: pl.Expr | None = None,
    parse: Callable[[str], Any] = parse_json,
    records: Sequence[Any] | None = None,
) -> pl.DataFrame:
    """Reads the wanted fields of one JSON object per line.

    A value must have the wanted type as JSON: a number in quotes is no number, and a number is no text. A whole float
    is accepted where an integer is wanted. Ids may be text or numbers.

    Args:
        path: The file; gz is known by its first bytes.
        fields: Wanted column -> keys that it may have; in each line the first key with a value is taken.
        dtypes: Wanted column -> type.
        required: Wanted columns that must have a value in every row.
        bad: Takes the rows that cannot be used, with line and reason.
        ids: Wanted columns that are ids, returned as text; their `dtypes` say as what most of them are read.
        encoding: Of lines that are not UTF-8; None = they are bad rows.
        chunk_bytes: About this much text is held at once.
        where: Expression over the result's columns; rows for which it is not true are let go piece by piece, so that
            a small part of a large file needs little memory.
        parse: Reads a line that is no plain JSON; raises `ValueError` where it cannot.
        records: What the file holds, where that is one JSON value instead of lines.

    Returns:
        The columns of `fields` and `line` int64, the line of the file or the number of the record.

    Raises:
        DataError: If the file cannot be read, or no line has a value for a required column.
    """
    piece_of = _Piece(path, fields, dtypes, bad, parse, ids)
    pieces = _pieces(path, bad, chunk_bytes, encoding) if records is None else _record_pieces(records)
    wanted = {**dtypes, **dict.fromkeys(ids, pl.String())}
    parts: list[pl.DataFrame] = []
    for numbers, texts in pieces:
        raw, kept = piece_of.read(numbers, texts)
        if not parts:
            piece_of.check_has(raw, required, texts)
        typed = typed_rows(
            raw, dtypes=wanted, required=required, file=path.name, bad=bad, text_of=partial(_shown, kept), ids=ids
        )
        parts.append(typed if where is None else typed.filter(where))
    return pl.concat(parts) if parts else pl.DataFrame(schema={**wanted, LINE: pl.Int64})


class _Piece:
    """Turns some lines into columns: all at once where polars reads them, else line by line to find the bad ones."""

    def __init__(
        self,
        path: Path,
        fields: Mapping[str, Sequence[str]],
        dtypes: Mapping[str, pl.DataType],
        bad: BadRows,
        parse: Callable[[str], Any],
        ids: Sequence[str],
    ) -> None:
        self._path, self._fields, self._dtypes = path, fields, dtypes
        self._bad, self._parse, self._ids = bad, parse, ids

    def read(self, numbers: list[int], texts: list[Any]) -> tuple[pl.DataFrame, list[Any]]:
        """Returns the columns and `line`, and the text of each row; of records, the rows themselves."""
        at_once = read_at_once(texts, self._fields, self._dtypes) if isinstance(texts[0], str) else None
        if at_once is not None and self._ids_are_exact(at_once):
            at_once = at_once.with_columns(pl.col(name).cast(pl.String) for name in self._ids)
            return at_once.with_columns(pl.Series(LINE, numbers, dtype=pl.Int64)), texts
        kept: list[Any] = []
        columns: dict[str, list[Any]] = {name: [] for name in (*self._fields, LINE)}
        for number, text in zip(numbers, texts, strict=True):
            values = self._values(number, text)
            if values is None:
                continue
            kept.append(text)
            columns[LINE].append(number)
            for name, value in values.items():
                columns[name].append(value)
        dtypes = {**self._dtypes, **dict.fromkeys(self._ids, pl.String())}
        series = [pl.Series(name, columns[name], dtype=dtypes[name], strict=False) for name in self._fields]
        return pl.DataFrame([*series, pl.Series(LINE, columns[LINE], dtype=pl.Int64)]), kept

    def _ids_are_exact(self, raw: pl.DataFrame) -> bool:
        """Whether no id may have been a float that is not whole, or beyond what a float holds."""
        whole = [name for name in self._ids if raw.schema[name] == pl.Int64]
        return all(bool((raw[name].abs() < _EXACT).fill_null(True).all()) for name in whole)

    def _values(self, number: int, text: Any) -> dict[str, Any] | None:
        try:
            content = self._parse(text) if isinstance(text, str) else text
        except (ValueError, RecursionError):
            self._bad.add(self._path.name, number, "not JSON", text)
            return None
        if not isinstance(content, dict):
            self._bad.add(self._path.name, number, "not a JSON object", str(text))
            return None
        values = {
            name: next((content[key] for key in keys if content.get(key) is not None), None)
            for name, keys in self._fields.items()
        }
        for name, value in values.items():
            if value is None:
                continue
            if name in self._ids:
                values[name] = value = id_text(value, name=name, place=f"{self._path}:{number}")
                is_sound, kind = value is not None and fits(value, pl.String()), "text or a number"
            else:
                is_sound, kind = fits(value, self._dtypes[name]), kind_of(self._dtypes[name])
            if not is_sound:
                self._bad.add(self._path.name, number, f"{name} is not {kind}", str(text))
                return None
        return values

    def check_has(self, raw: pl.DataFrame, required: Sequence[str], texts: list[Any]) -> None:
        """Stops where a required column has no value in any of the first rows: it is called otherwise in this file."""
        for name in required:
            if raw.height and raw[name].null_count() == raw.height:
                wanted = " or ".join(f"'{key}'" for key in self._fields[name])
                raise DataError(f"{self._path}: no line has {wanted} ({name}); the first has {self._keys(texts)}")

    def _keys(self, texts: list[Any]) -> str:
        for text in texts:
            try:
                content = self._parse(text) if isinstance(text, str) else text
            except (ValueError, RecursionError):
                continue
            if isinstance(content, dict):
                more = ", ..." if len(content) > _SHOWN_KEYS else ""
                return ", ".join(list(content)[:_SHOWN_KEYS]) + more
        return "nothing"


def _shown(rows: Sequence[Any], place: int) -> str:
    return str(rows[place])


def _record_pieces(records: Sequence[Any]) -> Iterator[tuple[list[int], list[Any]]]:
    if records:
        yield list(range(1, len(records) + 1)), list(records)


def _pieces(path: Path, bad: BadRows, chunk_bytes: int, encoding: str | None) -> Iterator[tuple[list[int], list[str]]]:
    """Gives line numbers and texts; a line that is not UTF-8 is noted and left out, a blank one left out."""
    lines = TextLines(path, bad=bad, encoding=encoding)
    numbers: list[int] = []
    texts: list[str] = []
    size = 0
    for number, text in lines:
        if not text or text.isspace():
            continue
        if lines.broken and number in lines.broken:
            shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            bad.add(path.name, number, "not UTF-8 text", shown)
            continue
        numbers.append(number)
        texts.append(text)
        size += len(text)
        if size >= chunk_bytes:
            yield numbers, texts
            numbers, texts, size = [], [], 0
    if texts:
        yield numbers, texts
