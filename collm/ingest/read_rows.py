"""Reads tables from text files, JSON or parquet: wanted columns as typed rows, or a sample of all columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from collm.errors import DataError
from collm.ingest.bad_rows import BadRows
from collm.ingest.csv_head import BLANK, DOUBLE_COLON
from collm.ingest.csv_rows import CsvRows, read_csv_rows
from collm.ingest.json_lines import json_or_literal, read_json_lines, read_records
from collm.ingest.json_tables import whole_records
from collm.ingest.table_files import Part, check_kind, file_format, parts_of
from collm.ingest.text_lines import TextLines
from collm.ingest.typed_rows import LINE, WantedColumns, read_parquet_rows, sample_parquet

SAMPLE_ROWS = 10_000
_INT64 = 2**63
_SAMPLED_PARTS = 20
_SEPARATOR_NAMES = {"\t": "tab", BLANK: "blanks", DOUBLE_COLON: "::"}


@dataclass(frozen=True)
class Sample:
    """The beginning of a file.

    Attributes:
        rows: Up to `SAMPLE_ROWS` rows; text files have text columns, nested values are left out.
        format: Kind of file, in words, e.g. `csv separated by ;`.
        bad: What was passed over, in words; empty where nothing was.
        not_utf8: Some lines that are not UTF-8, as bytes; empty where all are, or an encoding was named.
        is_whole: Whether these are all rows.
    """

    rows: pl.DataFrame
    format: str
    bad: str = ""
    not_utf8: tuple[bytes, ...] = ()
    is_whole: bool = False


def sample_file(path: Path, *, encoding: str | None = None, may_be_empty: bool = False) -> Sample:
    """Reads the first rows of a file or folder of parts and leaves out what cannot be used.

    A file without a usable row is an error unless it `may_be_empty`; its columns are known nevertheless.

    Raises:
        DataError: If the file cannot be read, has no columns, or no row can be used.
    """
    parts = parts_of(path)
    samples = [_sample_part(part.path, encoding, may_be_empty=may_be_empty) for part in parts[:_SAMPLED_PARTS]]
    if len(parts) == 1 and not parts[0].keys:
        return samples[0]
    each = max(1, SAMPLE_ROWS // len(samples))
    rows = [
        sample.rows.head(each).with_columns(
            pl.lit(value, dtype=pl.String).alias(name) for name, value in part.keys.items()
        )
        for part, sample in zip(parts, samples, strict=False)
    ]
    return Sample(
        pl.concat(rows, how="diagonal_relaxed"),
        f"{len(parts)} parts of {samples[0].format}",
        ", ".join(sample.bad for sample in samples if sample.bad),
        tuple(line for sample in samples for line in sample.not_utf8),
    )


def read_rows(path: Path, wanted: WantedColumns, *, bad: BadRows, encoding: str | None = None) -> pl.DataFrame:
    """Reads the wanted columns of a table in text form, of JSON, or of parquet; parts in the order of their names.

    Lines of text files that are not UTF-8 are read in `encoding`; None = they are bad rows.

    Returns:
        The wanted columns and `line` int64: the line of the file, of a folder the lines of all parts counted on.

    Raises:
        DataError: If the file cannot be read or lacks a column.
    """
    frames: list[pl.DataFrame] = []
    n_lines = 0
    for part in parts_of(path):
        inside = wanted.without(part.keys)
        frame = _read_part(part.path, inside, bad, encoding).with_columns(
            _of_folder(part, name, wanted) for name in wanted.names if name not in inside.names
        )
        frames.append(frame.select(*wanted.names, pl.col(LINE) + n_lines))
        n_lines = int(frames[-1][LINE].max() or n_lines)
    return pl.concat(frames, how="vertical_relaxed")


def _of_folder(part: Part, name: str, wanted: WantedColumns) -> pl.Expr:
    value = next(part.keys[each] for each in wanted.names[name] if each in part.keys)
    return pl.lit(value, dtype=pl.String).cast(wanted.types()[name]).alias(name)


def _read_part(path: Path, wanted: WantedColumns, bad: BadRows, encoding: str | None) -> pl.DataFrame:
    found = file_format(path)
    check_kind(path, parquet=found == "parquet")
    if found == "parquet":
        return read_parquet_rows(path, wanted, bad=bad)
    if found == "csv":
        return read_csv_rows(path, wanted, bad=bad, encoding=encoding)
    records = whole_records(path, parse=json_or_literal)
    if records is not None:
        return read_records(path, records, wanted, bad=bad, parse=json_or_literal)
    return read_json_lines(path, wanted, bad=bad, encoding=encoding, parse=json_or_literal)


def _sample_part(path: Path, encoding: str | None, *, may_be_empty: bool) -> Sample:
    found = file_format(path)
    check_kind(path, parquet=found == "parquet")
    if found == "parquet":
        rows, nested = sample_parquet(path, SAMPLE_ROWS)
        if rows.is_empty() and not may_be_empty:
            raise DataError(f"{path}: holds no rows; its columns are {', '.join(rows.columns)}")
        said = f"parquet (columns of nested values are not read: {', '.join(nested)})" if nested else "parquet"
        return Sample(rows, said, is_whole=rows.height < SAMPLE_ROWS)
    bad = BadRows()
    if found == "csv":
        return _csv_sample(path, bad, encoding, may_be_empty=may_be_empty)
    records = whole_records(path, parse=json_or_literal)
    if records is not None:
        contents = enumerate(records[:SAMPLE_ROWS], start=1)
        return Sample(_of_objects(contents, path, bad), "one JSON value", _passed_over(bad))
    lines = TextLines(path, bad=bad, encoding=encoding)
    frame = _of_objects(_parsed(lines, path, bad), path, bad)
    return Sample(frame, "json lines", _passed_over(bad), tuple(lines.not_utf8), is_whole=frame.height < SAMPLE_ROWS)


def _csv_sample(path: Path, bad: BadRows, encoding: str | None, *, may_be_empty: bool) -> Sample:
    rows = CsvRows(path, bad=bad, encoding=encoding)
    head = rows.head
    records = [record.fields for record in islice(rows, SAMPLE_ROWS)]
    if not (may_be_empty or rows.not_utf8):  # another encoding may help
        _check_some(path, head.names, head.separator, records, bad)
    frame = pl.DataFrame(records, schema=dict.fromkeys(_unique(head.names, path), pl.String), orient="row")
    said = "; ".join([f"csv separated by {_SEPARATOR_NAMES.get(head.separator, head.separator)}", *head.remarks])
    return Sample(frame, said, _passed_over(bad), tuple(rows.not_utf8), is_whole=frame.height < SAMPLE_ROWS)


def _check_some(
    path: Path, names: Sequence[str], separator: str, records: Sequence[Sequence[str]], bad: BadRows
) -> None:
    """Stops where no row was usable, or no separator is known: what the columns mean cannot be guessed then."""
    if len(names) == 1:
        raise DataError(
            f"{path}: one column only, called '{names[0]}': no known separator (comma, ; tab | :: blanks) appears in "
            "the first line, which must name the columns"
        )
    if records:
        return
    if not len(bad):
        raise DataError(f"{path}: holds no rows below the line that names its columns ({', '.join(names)})")
    raise DataError(
        f"{path}: no row can be used ({_passed_over(bad)}); the first line has {len(names)} fields, separated by "
        f"'{_SEPARATOR_NAMES.get(separator, separator)}': {', '.join(names)}. The first row that does not fit: "
        f"'{bad.frame()['text'][0]}' (line {bad.frame()['line'][0]})"
    )


def _passed_over(bad: BadRows) -> str:
    return ", ".join(f"{reason}: {n}" for reason, n in bad.counts().items())


def _parsed(lines: TextLines, path: Path, bad: BadRows) -> Iterator[tuple[int, Any]]:
    for line, text in islice(lines, SAMPLE_ROWS):
        if not text.strip():
            continue
        try:
            yield line, json_or_literal(text)
        except (ValueError, RecursionError):
            bad.add(path.name, line, "not a JSON object", text)


def _of_objects(contents: Iterator[tuple[int, Any]], path: Path, bad: BadRows) -> pl.DataFrame:
    columns: dict[str, list[Any]] = {}
    n_rows = 0
    for line, content in contents:
        if not isinstance(content, dict):
            bad.add(path.name, line, "not a JSON object", str(content))
            continue
        columns |= {str(name): [None] * n_rows for name in content if name not in columns}
        for name, values in columns.items():
            values.append(content.get(name))
        n_rows += 1
    if not columns:
        why = f" ({_passed_over(bad)})" if len(bad) else ""
        raise DataError(f"{path}: holds no JSON objects, one per line{why}")
    kept = {name: _plain_series(name, values) for name, values in columns.items()}
    return pl.DataFrame([series for series in kept.values() if series is not None])


def _plain_series(name: str, values: list[Any]) -> pl.Series | None:
    """Returns numbers, booleans or text as they are, mixed ones as text, None for lists and mappings."""
    kinds = {type(value) for value in values if value is not None}
    if kinds - {bool, int, float, str}:
        return None
    if kinds == {bool}:
        return pl.Series(name, values, dtype=pl.Boolean)
    if kinds == {int}:
        whole = [value if value is not None and abs(value) < _INT64 else None for value in values]
        n_long = whole.count(None) - values.count(None)
        if 2 * n_long < len(values) - values.count(None):  # a few numbers that are too long are faults of their rows
            return pl.Series(name, whole, dtype=pl.Int64)
    if kinds and kinds <= {int, float} and kinds != {int}:
        return pl.Series(name, values, dtype=pl.Float64, strict=False)
    texts = [None if value is None else str(value).encode("utf-8", "replace").decode("utf-8") for value in values]
    return pl.Series(name, texts, dtype=pl.String)


def _unique(names: Sequence[str], path: Path) -> Sequence[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: several columns are called {', '.join(map(repr, twice))}; give them different names")
    return names
