"""One door to tables in files: the reader by the file's ending, its columns, and a sample of its rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import polars as pl

from collm.data.bad_rows import BadRows
from collm.data.csv_rows import CsvRows, read_csv_rows
from collm.data.json_lines import read_json_lines
from collm.data.parquet_rows import parquet_schema, read_parquet_rows
from collm.data.text_lines import TextLines
from collm.errors import DataError

Format = Literal["csv", "json", "parquet"]
ENDINGS: Mapping[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
}
SAMPLE_ROWS = 10_000
_SEPARATOR_NAMES = {"\t": "tab"}


@dataclass(frozen=True)
class Sample:
    """The beginning of a file.

    Attributes:
        rows: Up to `SAMPLE_ROWS` rows; text files have text columns, nested values are left out.
        format: Kind of file, in words, e.g. `csv separated by ;`.
        bad: What was passed over, in words; empty where nothing was.
    """

    rows: pl.DataFrame
    format: str
    bad: str = ""


def file_format(path: Path) -> Format:
    """Returns the format that a file's name says.

    Raises:
        DataError: If the ending is unknown; lists the known ones.
    """
    name = path.name.lower()
    plain = name.removesuffix(".gz")
    for ending, found in ENDINGS.items():
        if plain.endswith(ending) and not (found == "parquet" and name.endswith(".gz")):
            return found
    raise DataError(f"{path}: unknown ending; readable are {', '.join(ENDINGS)} (text files also with .gz)")


def sample_file(path: Path) -> Sample:
    """Reads the first rows, passing over what cannot be used: only a look, nothing is reported.

    Raises:
        DataError: If the file cannot be read or has no columns.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    found = file_format(path)
    if found == "parquet":
        names = [name for name, dtype in parquet_schema(path).items() if not dtype.is_nested()]
        return Sample(pl.read_parquet(path, columns=names, n_rows=SAMPLE_ROWS), "parquet")
    bad = BadRows()
    if found == "csv":
        rows = CsvRows(path, bad=bad)
        records = [record.fields for record in islice(rows, SAMPLE_ROWS)]
        separator = rows.head.separator
        frame = pl.DataFrame(records, schema=dict.fromkeys(_unique(rows.head.names, path), pl.String), orient="row")
        return Sample(frame, f"csv separated by {_SEPARATOR_NAMES.get(separator, separator)}", _passed_over(bad))
    frame = _json_sample(path, bad)
    return Sample(frame, "json lines", _passed_over(bad))


def read_rows(
    path: Path,
    *,
    fields: Mapping[str, Sequence[str]],
    dtypes: Mapping[str, pl.DataType],
    required: Sequence[str],
    bad: BadRows,
) -> pl.DataFrame:
    """Reads the wanted columns of a CSV, TSV, JSON-lines or parquet file.

    Args:
        path: The file.
        fields: Wanted column -> names that it may have in the file.
        dtypes: Wanted column -> type.
        required: Wanted columns that must have a value in every row.
        bad: Takes the rows that cannot be used.

    Returns:
        The columns of `fields` and `line` int64.

    Raises:
        DataError: If the file cannot be read or lacks a column.
    """
    readers = {"csv": read_csv_rows, "json": read_json_lines, "parquet": read_parquet_rows}
    reader: Any = readers[file_format(path)]
    frame: pl.DataFrame = reader(path, fields=fields, dtypes=dtypes, required=required, bad=bad)
    return frame


def _passed_over(bad: BadRows) -> str:
    return ", ".join(f"{reason}: {n}" for reason, n in bad.counts().items())


def _json_sample(path: Path, bad: BadRows) -> pl.DataFrame:
    columns: dict[str, list[Any]] = {}
    n_rows = 0
    for line, text in islice(TextLines(path, bad=bad), SAMPLE_ROWS):
        if not text.strip():
            continue
        try:
            content = json.loads(text)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            bad.add(path.name, line, "not a JSON object", text)
            continue
        columns |= {name: [None] * n_rows for name in content if name not in columns}
        for name, values in columns.items():
            values.append(content.get(name))
        n_rows += 1
    if not columns:
        raise DataError(f"{path}: holds no JSON objects, one per line")
    kept = {name: _plain_series(name, values) for name, values in columns.items()}
    return pl.DataFrame([series for series in kept.values() if series is not None])


def _plain_series(name: str, values: list[Any]) -> pl.Series | None:
    """Returns numbers, booleans or text as they are, mixed ones as text, None for lists and mappings."""
    kinds = {type(value) for value in values if value is not None}
    if kinds & {list, dict}:
        return None
    if kinds == {bool}:
        return pl.Series(name, values, dtype=pl.Boolean)
    if kinds == {int}:
        return pl.Series(name, values, dtype=pl.Int64, strict=False)
    if kinds and kinds <= {int, float}:
        return pl.Series(name, values, dtype=pl.Float64, strict=False)
    return pl.Series(name, [None if value is None else str(value) for value in values], dtype=pl.String)


def _unique(names: Sequence[str], path: Path) -> Sequence[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: several columns are called {', '.join(map(repr, twice))}; give them different names")
    return names
