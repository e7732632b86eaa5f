"""CSV and its relatives, plain or gz -> typed columns and line numbers; every line that does not fit is a bad row.

How a file is laid out is worked out in `csv_head`. Double quotes quote a field, which may then hold separators and line
ends (RFC 4180); a backslash before a quote is read as MySQL means it where the line makes no sense otherwise. Blank
lines hold no data and are passed over.
"""

from __future__ import annotations

import csv
import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from collm.errors import DataError
from collm.ingest.bad_rows import BadRows
from collm.ingest.csv_head import (
    BLANK,
    PEEKED_LINES,
    CsvHead,
    are_most,
    fields_of,
    is_number,
    read_head,
    reason_of,
    split_lines,
)
from collm.ingest.text_lines import TextLines
from collm.ingest.typed_rows import LINE, WantedColumns, typed_rows

_SWALLOWED = (
    "whose quote closes only on a later line, over lines that are rows of their own, read with its quotes as text"
)

_UNBALANCED = "whose quotes do not fit, read with its quotes as text"


@dataclass(frozen=True)
class CsvRecord:
    """One row as found: its first line's number, its fields, its text."""

    line: int
    fields: list[str]
    text: str


def read_csv_rows(
    path: Path, wanted: WantedColumns, *, bad: BadRows, encoding: str | None = None, chunk_bytes: int = 16 << 20
) -> pl.DataFrame:
    """Reads the wanted columns of a file.

    Returns:
        The wanted columns and `line` int64, the line of the file in which the row begins.

    Raises:
        DataError: If the file cannot be read or lacks a column.
    """
    rows = CsvRows(path, bad=bad, encoding=encoding)
    places = {name: _place(rows.head, name, spellings, path) for name, spellings in wanted.names.items()}
    chunks = []
    for records in _chunks(rows, chunk_bytes):
        columns = {name: [record.fields[place] for record in records] for name, place in places.items()}
        raw = pl.DataFrame(
            {**columns, LINE: [record.line for record in records]},
            schema={**dict.fromkeys(columns, pl.String), LINE: pl.Int64},
        )
        texts = [record.text for record in records]
        chunks.append(typed_rows(raw, wanted, file=path.name, bad=bad, text_of=texts.__getitem__))
    return pl.concat(chunks) if chunks else wanted.no_rows()


class CsvRows:
    """Iterates over the records of a file that have as many fields as its header."""

    def __init__(self, path: Path, *, bad: BadRows, encoding: str | None = None) -> None:
        """Reads the first lines.

        Raises:
            DataError: If the file is missing, empty, or its header cannot be read.
        """
        self.path, self.bad = path, bad
        self._texts = TextLines(path, bad=bad, encoding=encoding)
        source = iter(self._texts)
        first = next((line for line in source if line[1].strip()), None)
        if first is None:
            why = f" ({', '.join(bad.counts())})" if len(bad) else ""
            raise DataError(f"{path}: is empty{why}; the first line must name the columns")
        peeked = [first, *itertools.islice(source, PEEKED_LINES)]
        self.head = read_head([line for line in peeked if line[1].strip()], path)
        if self.head.line in self._texts.broken:
            raise DataError(
                f"{path}:{self.head.line}: the header line is not UTF-8 text; save the file as UTF-8, or name its "
                "encoding"
            )
        body = [line for line in peeked if line[0] > self.head.line]
        self._lines = _Lines(itertools.chain(body, source))
        self._shape = _Shape(_whole_records(body, self.head.separator), len(self.head.names))

    @property
    def not_utf8(self) -> list[bytes]:
        """The first lines found so far that are not UTF-8, as bytes."""
        return self._texts.not_utf8

    def __iter__(self) -> Iterator[CsvRecord]:
        """Gives the sound records; of one that does not fit and spans lines, only the first line is given up."""
        reader = split_lines(self._lines, self.head.separator)
        while True:
            self._lines.taken.clear()
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                fields = self._with_backslashes() or self._tabbed()
                if not fields:
                    self._give_up_first_line(reason_of(error))
                    continue
            if not fields:
                continue
            if len(self._lines.taken) > 1:
                fields = self._first_line_alone() or fields
            if reason := self._fault(fields):
                self._give_up_first_line(reason)
                continue
            line, text = self._lines.taken[0]
            if len(self._lines.taken) > 1:
                text = "\n".join(part for _, part in self._lines.taken)
            yield CsvRecord(line, fields, text)

    def _fault(self, fields: list[str]) -> str:
        n = len(self.head.names)
        if len(fields) != n:
            return f"too {'few' if len(fields) < n else 'many'} fields"
        if self._texts.broken and any(number in self._texts.broken for number, _ in self._lines.taken):
            return "not UTF-8 text"
        return "a NUL character" if any("\0" in field for field in fields) else ""

    def _with_backslashes(self) -> list[str]:
        """Returns the first line's fields with a backslash before a quote as part of its text; nothing if it fails."""
        first = self._lines.taken[0][1]
        if '\\"' not in first or len(self.head.separator) > 1:
            return []
        reader = csv.reader([first], delimiter=self.head.separator, strict=True, escapechar="\\")
        try:
            fields = next(reader)
        except csv.Error:
            return []
        if len(fields) != len(self.head.names):
            return []
        self._read_later_lines_again()
        return fields

    def _tabbed(self) -> list[str]:
        """Returns the first line's fields with its quotes as text where tabs separate: few writers quote there."""
        line, first = self._lines.taken[0]
        fields = first.split("\t") if self.head.separator == "\t" else []
        if len(fields) != len(self.head.names):
            return []
        self._read_later_lines_again()
        self.bad.doubt(self.path.name, line, _UNBALANCED)
        return fields

    def _first_line_alone(self) -> list[str]:
        """Returns the first line's fields with its quotes as text, where two stray quotes made one record of rows."""
        line, first = self._lines.taken[0]
        alone = first.split() if self.head.separator == BLANK else first.split(self.head.separator)
        later = [text for _, text in self._lines.taken[1:] if text.strip()]
        n_rows = sum(self._shape.fits(fields_of(text, self.head.separator)) for text in later)
        if not self._shape.fits(alone) or 2 * n_rows < len(later):
            return []
        self._read_later_lines_again()
        self.bad.doubt(self.path.name, line, _SWALLOWED)
        return alone

    def _read_later_lines_again(self) -> None:
        first, *later = self._lines.taken
        self._lines.again.extendleft(reversed(later))
        self._lines.taken[:] = [first]

    def _give_up_first_line(self, reason: str) -> None:
        # A stray quote swallows the lines after it; they are read again on their own.
        self._read_later_lines_again()
        line, text = self._lines.taken[0]
        self.bad.add(self.path.name, line, reason, text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))


class _Shape:
    """What the columns of a file hold, from its first rows: enough to distinguish a row from a line of running text."""

    def __init__(self, rows: Sequence[Sequence[str]], n_fields: int) -> None:
        """Takes the fields of the first lines, and how many the header has."""
        columns = list(zip(*(row for row in rows if len(row) == n_fields), strict=True))
        self._numbers = [are_most(is_number(value) for value in column) for column in columns]
        self._words = [are_most(value.strip() and " " not in value.strip() for value in column) for column in columns]

    def fits(self, fields: Sequence[str]) -> bool:
        """Whether fields look like those of a row."""
        if not self._numbers or len(fields) != len(self._numbers):
            return False
        return all(
            (not is_numeric or is_number(value)) and (not is_word or " " not in value.strip())
            for value, is_numeric, is_word in zip(fields, self._numbers, self._words, strict=True)
        )


def _whole_records(lines: Sequence[tuple[int, str]], separator: str) -> list[list[str]]:
    """Returns the fields of the records whose quotes fit."""
    found: list[list[str]] = []
    reader = split_lines((text + "\n" for _, text in lines), separator)
    while True:
        try:
            found.append(next(reader))
        except csv.Error:
            continue
        except StopIteration:
            return found


class _Lines:
    """Feeds the csv reader line by line and remembers what the current record took."""

    def __init__(self, source: Iterator[tuple[int, str]]) -> None:
        self.source = source
        self.taken: list[tuple[int, str]] = []
        self.again: deque[tuple[int, str]] = deque()

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self.again.popleft() if self.again else next(self.source)
        self.taken.append(line)
        return line[1] + "\n"


def _place(head: CsvHead, name: str, spellings: Sequence[str], path: Path) -> int:
    for spelling in spellings:
        n = head.names.count(spelling)
        if n > 1:
            raise DataError(f"{path}: {n} columns are called '{spelling}'; give them different names")
        if n:
            return head.names.index(spelling)
    wanted = " or ".join(f"'{each}'" for each in spellings)
    raise DataError(f"{path}: column {wanted} ({name}) is missing; the file has {', '.join(head.names)}")


def _chunks(rows: CsvRows, chunk_bytes: int) -> Iterator[list[CsvRecord]]:
    chunk: list[CsvRecord] = []
    size = 0
    for record in rows:
        chunk.append(record)
        size += len(record.text)
        if size >= chunk_bytes:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
