"""Parquet files -> typed columns and row numbers, with the same rules for bad rows as text files."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from collm.errors import DataError
from collm.ingest.bad_rows import BadRows
from collm.ingest.ids import id_texts
from collm.ingest.typed_rows import LINE, WantedColumns, typed_rows


def parquet_schema(path: Path) -> dict[str, pl.DataType]:
    """Returns the columns and their types.

    Raises:
        DataError: If the file is missing or no parquet.
    """
    try:
        return dict(_scan(path).collect_schema())
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: cannot be read as parquet ({str(error).splitlines()[0]})") from error


def read_parquet_rows(path: Path, wanted: WantedColumns, *, bad: BadRows) -> pl.DataFrame:
    """Reads the wanted columns of a file; ids are whole numbers, text, or what can be written as such without loss.

    Returns:
        The wanted columns and `line` int64, the row in the file from 1.

    Raises:
        DataError: If the file cannot be read, lacks a column, or a column is nested.
    """
    schema = parquet_schema(path)
    chosen = {}
    for name, spellings in wanted.names.items():
        found = [spelling for spelling in spellings if spelling in schema]
        if not found:
            either = " or ".join(f"'{each}'" for each in spellings)
            raise DataError(f"{path}: column {either} ({name}) is missing; the file has {', '.join(schema)}")
        if schema[found[0]].is_nested():
            raise DataError(f"{path}: column '{found[0]}' holds {schema[found[0]]}; {name} must be a plain value")
        chosen[name] = found[0]
    try:
        raw = _scan(path).select(sorted(set(chosen.values()))).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: cannot be read ({str(error).splitlines()[0]}); get the file again") from error
    raw = raw.select(
        *(pl.col(old).alias(new) for new, old in chosen.items()),
        pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(LINE),
    )
    binary = [name for name in chosen if name not in wanted.ids and raw.schema[name] == pl.Binary]
    raw = raw.with_columns(_as_text(raw[name]) for name in binary)
    raw = raw.with_columns(
        id_texts(raw[name], raw[LINE], name=chosen[name], path=path).alias(name) for name in wanted.ids
    )

    def text_of(place: int) -> str:
        return ",".join("" if value is None else str(value) for value in raw.row(place)[:-1])

    return typed_rows(raw, wanted, file=path.name, bad=bad, text_of=text_of)


def sample_parquet(path: Path, n_rows: int) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Reads the first rows of all columns that hold plain values, and names the others.

    Raises:
        DataError: If the file cannot be read.
    """
    schema = parquet_schema(path)
    nested = tuple(name for name, dtype in schema.items() if dtype.is_nested())
    try:
        rows = _scan(path).select(name for name in schema if name not in nested).head(n_rows).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: cannot be read ({str(error).splitlines()[0]}); get the file again") from error
    return rows.with_columns(_as_text(rows[name]) for name in rows.columns if rows.schema[name] == pl.Binary), nested


def _as_text(values: pl.Series) -> pl.Series:
    """Reads bytes as UTF-8, as writers without text types mean them; what is none is replaced."""
    texts = [None if value is None else value.decode("utf-8", "replace") for value in values]
    return pl.Series(values.name, texts, dtype=pl.String)


def _scan(path: Path) -> pl.LazyFrame:
    """Opens one file: its name is not a pattern, and folders named `key=value` above it add no columns."""
    return pl.scan_parquet(path, glob=False, hive_partitioning=False)
