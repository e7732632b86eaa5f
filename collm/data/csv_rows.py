"""CSV and TSV files, plain or gz -> typed columns and line numbers; every line that does not fit is a bad row.

The separator is the one of `,` `;` tab `|` that stands most often in the header line. Double quotes quote a field,
which may then hold separators and line ends (RFC 4180). Blank lines hold no data and are passed over.
"""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from collm.data.bad_rows import BadRows
from collm.data.text_lines import TextLines
from collm.data.typed_rows import LINE, typed_rows
from collm.errors import DataError

SEPARATORS = (",", ";", "\t", "|")
_NOT_CLOSED = "a quote is not closed"
_REASONS = {
    "field larger": f"{_NOT_CLOSED}, or a field is longer than {csv.field_size_limit()} characters",
    "unexpected end": _NOT_CLOSED,
    "expected after": "text after a closing quote",
}


@dataclass(frozen=True)
class CsvHead:
    """The first line of a file.

    Attributes:
        separator: Between fields.
        names: Column names, without surrounding blanks.
    """

    separator: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class CsvRecord:
    """One row as found: its first line's number, its fields, its text."""

    line: int
    fields: list[str]
    text: str


def csv_head(path: Path) -> CsvHead:
    """Reads the header line.

    Raises:
        DataError: If the file is missing, empty, or its header cannot be read.
    """
    return CsvRows(path, bad=BadRows()).head


def read_csv_rows(
    path: Path,
    *,
    fields: Mapping[str, Sequence[str]],
    dtypes: Mapping[str, pl.DataType],
    required: Sequence[str],
    bad: BadRows,
    chunk_bytes: int = 16 << 20,
) -> pl.DataFrame:
    """Reads the wanted columns of a file.

    Args:
        path: CSV or TSV file with a header line; gz or not.
        fields: Wanted column -> names that it may have in the file, the first present one is taken.
        dtypes: Wanted column -> type.
        required: Wanted columns that must have a value in every row.
        bad: Takes the rows that cannot be used, with line and reason.
        chunk_bytes: About this much text is held at once.

    Returns:
        The columns of `fields` and `line` int64, the line of the file in which the row begins.

    Raises:
        DataError: If the file cannot be read or lacks a column.
    """
    rows = CsvRows(path, bad=bad)
    places = {name: _place(rows.head, name, spellings, path) for name, spellings in fields.items()}
    parts = []
    for batch in _batches(rows, chunk_bytes):
        columns = {name: [record.fields[place] for record in batch] for name, place in places.items()}
        raw = pl.DataFrame(
            {**columns, LINE: [record.line for record in batch]},
            schema={**dict.fromkeys(columns, pl.String), LINE: pl.Int64},
        )
        texts = [record.text for record in batch]
        typed = typed_rows(
            raw, dtypes=dict(dtypes), required=required, file=path.name, bad=bad, text_of=texts.__getitem__
        )
        parts.append(typed)
    return pl.concat(parts) if parts else pl.DataFrame(schema={**dtypes, LINE: pl.Int64})


class CsvRows:
    """Iterates over the records of a file that have as many fields as its header."""

    def __init__(self, path: Path, *, bad: BadRows) -> None:
        """Reads the header line.

        Args:
            path: The file.
            bad: Takes the records that do not fit.

        Raises:
            DataError: If the file is missing, empty, or its header cannot be read.
        """
        self.path, self.bad = path, bad
        self._texts = TextLines(path, bad=bad)
        self._lines = _Lines(iter(self._texts))
        first = next(((number, text) for number, text in self._lines.source if text.strip()), None)
        if first is None:
            raise DataError(f"{path}: is empty; the first line must name the columns")
        self.head = _head(first[1], path)
        if self._texts.broken:
            raise DataError(f"{path}:{first[0]}: the header line is not UTF-8 text; save the file as UTF-8")

    def __iter__(self) -> Iterator[CsvRecord]:
        """Gives the sound records; of one that does not fit and spans lines, only the first line is given up."""
        reader = csv.reader(self._lines, delimiter=self.head.separator, strict=True)
        while True:
            self._lines.taken.clear()
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                self._give_up_first_line(_reason(error))
                continue
            if not fields:
                continue
            reason = self._fault(fields)
            if reason:
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
        return ""

    def _give_up_first_line(self, reason: str) -> None:
        (line, text), *later = self._lines.taken
        # A stray quote swallows the lines after it; they are read again on their own.
        self._lines.again.extendleft(reversed(later))
        self.bad.add(self.path.name, line, reason, text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))


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


def _head(text: str, path: Path) -> CsvHead:
    outside_quotes = "".join(text.split('"')[::2])
    separator = max(SEPARATORS, key=outside_quotes.count)
    try:
        names = next(csv.reader(io.StringIO(text), delimiter=separator, strict=True))
    except csv.Error as error:
        raise DataError(f"{path}:1: the header line cannot be read: {_reason(error)}") from error
    return CsvHead(separator, tuple(name.strip() for name in names))


def _place(head: CsvHead, name: str, spellings: Sequence[str], path: Path) -> int:
    for spelling in spellings:
        n = head.names.count(spelling)
        if n > 1:
            raise DataError(f"{path}: {n} columns are called '{spelling}'; give them different names")
        if n:
            return head.names.index(spelling)
    wanted = " or ".join(f"'{each}'" for each in spellings)
    raise DataError(f"{path}: column {wanted} ({name}) is missing; the file has {', '.join(head.names)}")


def _batches(rows: CsvRows, chunk_bytes: int) -> Iterator[list[CsvRecord]]:
    batch: list[CsvRecord] = []
    size = 0
    for record in rows:
        batch.append(record)
        size += len(record.text)
        if size >= chunk_bytes:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _reason(error: csv.Error) -> str:
    return next((reason for start, reason in _REASONS.items() if start in str(error)), f"not CSV: {error}")
