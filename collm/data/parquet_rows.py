"""Parquet files -> typed columns and row numbers, with the same rules for bad rows as text files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from collm.data.bad_rows import BadRows
from collm.data.typed_rows import LINE, typed_rows
from collm.errors import DataError


def parquet_schema(path: Path) -> dict[str, pl.DataType]:
    """Returns the columns and their types.

    Raises:
        DataError: If the file is missing or no parquet.
    """
    try:
        return dict(pl.read_parquet_schema(path))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: cannot be read as parquet ({str(error).splitlines()[0]})") from error


def read_parquet_rows(
    path: Path,
    *,
    fields: Mapping[str, Sequence[str]],
    dtypes: Mapping[str, pl.DataType],
    required: Sequence[str],
    bad: BadRows,
) -> pl.DataFrame:
    """Reads the wanted columns of a file.

    Args:
        path: Parquet file.
        fields: Wanted column -> names that it may have in the file, the first present one is taken.
        dtypes: Wanted column -> type.
        required: Wanted columns that must have a value in every row.
        bad: Takes the rows that cannot be used.

    Returns:
        The columns of `fields` and `line` int64, the row in the file from 1.

    Raises:
        DataError: If the file cannot be read, lacks a column, or a column is nested.
    """
    schema = parquet_schema(path)
    chosen = {}
    for name, spellings in fields.items():
        found = [spelling for spelling in spellings if spelling in schema]
        wanted = " or ".join(f"'{each}'" for each in spellings)
        if not found:
            raise DataError(f"{path}: column {wanted} ({name}) is missing; the file has {', '.join(schema)}")
        if schema[found[0]].is_nested():
            raise DataError(f"{path}: column '{found[0]}' holds {schema[found[0]]}; {name} must be a plain value")
        chosen[name] = found[0]
    try:
        raw = pl.read_parquet(path, columns=sorted(set(chosen.values())))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: cannot be read ({str(error).splitlines()[0]}); get the file again") from error
    raw = raw.select(
        *(pl.col(old).alias(new) for new, old in chosen.items()),
        pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(LINE),
    )

    def text_of(place: int) -> str:
        return ",".join("" if value is None else str(value) for value in raw.row(place)[:-1])

    return typed_rows(raw, dtypes=dict(dtypes), required=required, file=path.name, bad=bad, text_of=text_of)
