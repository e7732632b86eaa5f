"""How a table in text form is laid out: separator, header line or none, and what writers add to either.

Known are `,` `;` tab `|` `::` and blanks, the `sep=` line of spreadsheets, the row names of R, a separator at the end
of each row, the typed names of RecBole (`user_id:token`), and files without a header, such as MovieLens' `.dat`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from collm.errors import DataError

SEPARATORS = (",", ";", "\t", "|")
DOUBLE_COLON, BLANK = "::", " "
PEEKED_LINES = 60
ROW_NAME = "row_name"
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[,;\t|]*', re.IGNORECASE)
_TYPED_NAME = re.compile(r"(.+):(token|token_seq|float|float_seq)")
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
_WHOLE = re.compile(r"\d+")
_MOVIELENS = {3: ("user", "item", "rating"), 4: ("user", "item", "rating", "timestamp")}
_MOVIELENS_TITLES = ("item", "title", "genres")
_MOST = 0.8
_NOT_CLOSED = "a quote is not closed"
_REASONS = {
    "field larger": f"{_NOT_CLOSED}, or a field is longer than {csv.field_size_limit()} characters",
    "unexpected end": _NOT_CLOSED,
    "expected after": "text after a closing quote",
}
ADJACENCY = (
    "is an adjacency list as of LightGCN (each line: a user, then all items of that user), positives only. Dataset "
    "`files` reads it with `layout: adjacency` and `label: {from: positives, negatives: {per_positive: 1, by: uniform, "
    "seed: 0}}`, which says which items count as not liked"
)


@dataclass(frozen=True)
class CsvHead:
    """The layout of a file, from its first lines.

    Attributes:
        separator: Between fields; a blank means any number of blanks.
        names: Column names, without surrounding blanks; `column_1` and so on where the file has none.
        line: Number of the header line; where there is none, the number before the first row.
        remarks: What is unusual, in words.
    """

    separator: str
    names: tuple[str, ...]
    line: int = 1
    remarks: tuple[str, ...] = ()


def read_head(lines: Sequence[tuple[int, str]], path: Path) -> CsvHead:
    """Works out the layout.

    Raises:
        DataError: If the header cannot be read, or the file is an adjacency list.
    """
    given, (number, text), rest = _after_separator_line(lines, path)
    for fault, mark in (("NUL characters (UTF-16 without a byte-order mark, or no text at all)", "\0"),
                        ("line ends of a single carriage return", "\r")):  # fmt: skip
        if mark in text:
            raise DataError(f"{path}:{number}: the header line holds {fault}; save the file as UTF-8 text")
    if text.lstrip().startswith(("{", "[{")):
        raise DataError(f"{path}:{number}: holds JSON, not a table in text form; give it the ending .jsonl or .json")
    texts = [text for _, text in rest]
    separator = given or separator_of(text, texts)
    rows = [fields for each in texts if (fields := fields_of(each, separator))]
    try:
        names = tuple(name.strip() for name in split_line(text, separator))
    except csv.Error as error:
        raise DataError(f"{path}:{number}: the header line cannot be read: {reason_of(error)}") from error
    if _is_row(names, separator):
        if _is_adjacency([names, *rows], separator):
            raise DataError(f"{path}: {ADJACENCY}")
        return _without_header(names, separator, number - 1)
    remarks = (f"the line sep={given} of spreadsheets is passed over",) if given else ()
    if typed := [_TYPED_NAME.fullmatch(name) for name in names]:
        found = [match.group(1) for match in typed if match]
        if len(found) == len(names):
            names, remarks = tuple(found), (*remarks, "RecBole's types after the names are taken off")
    extra, remark = _extra_field(names, rows)
    return CsvHead(separator, (*extra[0], *names, *extra[1]), number, (*remarks, *remark))


def separator_of(text: str, others: Sequence[str]) -> str:
    """Returns what separates the fields of the first line."""
    if text.count(DOUBLE_COLON) and are_most(each.count(DOUBLE_COLON) == text.count(DOUBLE_COLON) for each in others):
        return DOUBLE_COLON
    outside_quotes = "".join(text.split('"')[::2])
    separator = max(SEPARATORS, key=outside_quotes.count)
    n = len(fields_of(text, BLANK))
    if separator in outside_quotes or n < 2:
        return separator
    counts = [len(fields_of(each, BLANK)) for each in others]
    is_whole = all(_WHOLE.fullmatch(field) for field in text.split())
    return BLANK if is_whole or are_most(count in (n, n + 1) for count in counts) else separator


def split_line(text: str, separator: str) -> list[str]:
    """Splits one line.

    Raises:
        csv.Error: If its quotes do not fit.
    """
    return next(split_lines(iter([text]), separator), [])


def split_lines(lines: Iterator[str], separator: str) -> Iterator[list[str]]:
    """Splits lines into fields; a quoted field may hold separators and line ends. Blank lines give no fields.

    Raises:
        csv.Error: If quotes do not fit; the next record can be read nevertheless.
    """
    # `map` requests the next line anew each time: after the last one, lines that are to be read again may follow.
    if separator == DOUBLE_COLON:  # its writers quote nothing
        return map(_split_at_double_colons, lines)
    if separator == BLANK:
        lines = map(_without_outer_blanks, lines)
    return csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=separator == BLANK)


def _split_at_double_colons(line: str) -> list[str]:
    text = line.rstrip("\r\n")
    return text.split(DOUBLE_COLON) if text else []


def _without_outer_blanks(line: str) -> str:
    return line.strip(" \r\n") + "\n"


def fields_of(text: str, separator: str) -> list[str]:
    """Returns the fields of a line by itself, nothing where its quotes do not fit."""
    try:
        return split_line(text, separator)
    except csv.Error:
        return []


def reason_of(error: csv.Error) -> str:
    """Returns what is wrong with a record, in a few words."""
    return next((reason for start, reason in _REASONS.items() if start in str(error)), f"not CSV: {error}")


def is_number(text: str) -> bool:
    """Whether a field is a number, with a point or a comma."""
    return _NUMBER.fullmatch(text.strip()) is not None


def _after_separator_line(
    lines: Sequence[tuple[int, str]], path: Path
) -> tuple[str, tuple[int, str], Sequence[tuple[int, str]]]:
    if not (match := _SEPARATOR_LINE.fullmatch(lines[0][1].strip(" "))):
        return "", lines[0], lines[1:]
    if len(lines) < 2:
        raise DataError(f"{path}: holds nothing but the line '{lines[0][1]}' of spreadsheets")
    return match.group(1), lines[1], lines[2:]


def _is_row(names: Sequence[str], separator: str) -> bool:
    """Whether the first line is a row already: names are not numbers."""
    n_numbers = sum(is_number(name) for name in names)
    return n_numbers > 0 if separator == DOUBLE_COLON else 2 * n_numbers >= max(2, len(names))


def _is_adjacency(rows: Sequence[Sequence[str]], separator: str) -> bool:
    whole = are_most(all(_WHOLE.fullmatch(field) for field in row) for row in rows)
    return whole and separator != DOUBLE_COLON and len({len(row) for row in rows}) > 1


def _without_header(fields: Sequence[str], separator: str, line: int) -> CsvHead:
    n = len(fields)
    are_numbers = all(is_number(field) for field in fields)
    if are_numbers and n in _MOVIELENS and (separator == DOUBLE_COLON or (separator == "\t" and n == max(_MOVIELENS))):
        names, how = _MOVIELENS[n], "taken in the order of MovieLens' files"
    elif separator == DOUBLE_COLON and n == len(_MOVIELENS_TITLES):
        names, how = _MOVIELENS_TITLES, "taken in the order of MovieLens' files"
    else:
        names, how = tuple(f"column_{place}" for place in range(1, n + 1)), "called"
    return CsvHead(separator, names, line, (f"no header line: its columns are {how}: {', '.join(names)}",))


def _extra_field(
    names: Sequence[str], rows: Sequence[Sequence[str]]
) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], tuple[str, ...]]:
    """Finds the one field more that all rows have: names of rows before the others, or nothing after them."""
    n = len(names)
    if len(rows) < 2 or any(len(row) != n + 1 for row in rows):
        return ((), ()), ()
    if all(not row[-1].strip() for row in rows):
        return ((), ("",)), ("each row ends in a separator",)
    if len({row[0] for row in rows}) == len(rows):
        first = next(name for name in (ROW_NAME, f"{ROW_NAME}_") if name not in names)
        return ((first,), ()), ("the rows have names that the header does not (as R writes them): they are not used",)
    return ((), ()), ()


def are_most(are: Iterable[object]) -> bool:
    """Whether most are true, or there are none."""
    found = [bool(each) for each in are]
    return sum(found) >= _MOST * len(found)
