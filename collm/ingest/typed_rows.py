"""Text or loosely typed columns -> the wanted types; values that do not fit make their row a bad one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from collm.errors import DataError
from collm.ingest.bad_rows import BadRows
from collm.ingest.ids import id_texts

LINE = "line"
# 4,5 and 1,6E+09, as spreadsheets of many countries write them. A comma before three digits may mark thousands instead.
_DECIMAL_COMMA = r"^\s*[+-]?(\d+,\d{1,2}|\d+,\d{4,}|\d{4,},\d+|0,\d+|\d+,\d+[eE][+-]?\d+)\s*$"
_EITHER_COMMA = r"^\s*[+-]?[1-9]\d{0,2},\d{3}\s*$"


@dataclass(frozen=True)
class WantedColumns:
    """Which columns to read of a file, and as what.

    Attributes:
        names: Wanted column -> names that it may have in the file; of several present ones the first is taken.
        dtypes: Wanted column -> type; that of an id does not count.
        required: Wanted columns that must have a value in every row.
        ids: Wanted columns that are ids: returned as text, blanks around it included.
    """

    names: Mapping[str, Sequence[str]]
    dtypes: Mapping[str, pl.DataType]
    required: Sequence[str] = ()
    ids: Sequence[str] = ()

    def types(self) -> dict[str, pl.DataType]:
        """Returns the types of the columns as they are returned, in their order."""
        return {name: pl.String() if name in self.ids else self.dtypes[name] for name in self.names}

    def spellings(self) -> list[str]:
        """Returns all names that a file may use, each once."""
        return list(dict.fromkeys(key for keys in self.names.values() for key in keys))

    def without(self, present: Collection[str]) -> WantedColumns:
        """Returns the columns of which no name is among these."""
        names = {name: keys for name, keys in self.names.items() if not any(key in present for key in keys)}
        return WantedColumns(
            names, self.dtypes, *([name for name in given if name in names] for given in (self.required, self.ids))
        )

    def no_rows(self) -> pl.DataFrame:
        """Returns a table of the wanted columns and `line` without rows."""
        return pl.DataFrame(schema={**self.types(), LINE: pl.Int64})


def typed_rows(
    raw: pl.DataFrame, wanted: WantedColumns, *, file: str, bad: BadRows, text_of: Callable[[int], str]
) -> pl.DataFrame:
    """Casts columns and takes out the rows that do not fit.

    Text is stripped of surrounding blanks, except that of ids; empty text is a missing value. Where a number is wanted,
    `4,5` is 4.5.

    Args:
        raw: The wanted columns, and `line` int64.
        wanted: Their types.
        file: File name for the bad rows.
        bad: Takes them.
        text_of: Position in `raw` -> the row as found.

    Returns:
        The usable rows in their order: the wanted columns, then `line`.
    """
    dtypes, required, ids = wanted.types(), wanted.required, wanted.ids
    texts = [name for name in dtypes if raw.schema[name] == pl.String]
    clean = raw.with_columns(
        pl.when(pl.col(name).str.strip_chars() != "").then(
            pl.col(name) if name in ids else pl.col(name).str.strip_chars()
        )
        for name in texts
    )
    numbers = [name for name in texts if dtypes[name].is_numeric()]
    pointed = clean.with_columns(point_for_comma(pl.col(name)) for name in numbers)
    typed = pointed.select(*(pl.col(name).cast(dtype, strict=False) for name, dtype in dtypes.items()), LINE)
    either = {name: clean[name].str.contains(_EITHER_COMMA) for name in numbers}
    faults = [
        pl.when(clean[name].is_not_null() & typed[name].is_null()).then(
            pl.when(either[name])
            .then(pl.lit(f"{name} has a comma that may mark decimals or thousands"))
            .otherwise(pl.lit(f"{name} is not {kind_of(dtype)}"))
            if name in either
            else pl.lit(f"{name} is not {kind_of(dtype)}")
        )
        for name, dtype in dtypes.items()
    ]
    faults += [pl.when(clean[name].is_null()).then(pl.lit(f"{name} is missing")) for name in required]
    return without(typed, pl.coalesce(*faults), file=file, bad=bad, text_of=text_of)


def point_for_comma(text: pl.Expr) -> pl.Expr:
    """Returns numbers written with a decimal comma with a point; other text as it is."""
    return pl.when(text.str.contains(_DECIMAL_COMMA)).then(text.str.replace(",", ".", literal=True)).otherwise(text)


def without(
    frame: pl.DataFrame, fault: pl.Expr, *, file: str, bad: BadRows, text_of: Callable[[int], str]
) -> pl.DataFrame:
    """Takes out and notes the rows for which `fault` gives a reason; it is null where a row is sound."""
    reasons = frame.select(fault.alias("reason"))["reason"]
    if reasons.null_count() == frame.height:
        return frame
    for place in reasons.is_not_null().arg_true().to_list():
        bad.add(file, int(frame[LINE][place]), reasons[place], text_of(place))
    return frame.filter(reasons.is_null())


def kind_of(dtype: pl.DataType) -> str:
    """Returns the name of a type's values in messages."""
    if dtype.is_integer():
        return "a whole number"
    if dtype.is_numeric():
        return "a number"
    if dtype == pl.Boolean:
        return "true or false"
    return "text" if dtype == pl.String else f"a {dtype}"


def parquet_schema(path: Path) -> dict[str, pl.DataType]:
    """Returns the columns and their types.

    Raises:
        DataError: If the file is missing or no parquet.
    """
    try:
        return dict(_scan(path).collect_schema())
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: cannot be read as parquet ({str(error).splitlines()[0]})") from error


def read_parquet_rows(path: Path, wanted: WantedColumns, *, bad: BadRows, rows: range | None = None) -> pl.DataFrame:
    """Reads the wanted columns of a file; ids are whole numbers, text, or what can be written as such without loss.

    Args:
        path: The file.
        wanted: The columns.
        bad: Takes the rows that do not fit.
        rows: Rows to read, from 0, without gaps; None = all.

    Returns:
        The wanted columns and `line` int64, the row in the file from 1.

    Raises:
        DataError: If the file cannot be read, lacks a column, or a column is nested.
    """
    schema, first = parquet_schema(path), 1 if rows is None else rows.start + 1
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
        scanned = _scan(path) if rows is None else _scan(path).slice(rows.start, len(rows))
        raw = scanned.select(sorted(set(chosen.values()))).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: cannot be read ({str(error).splitlines()[0]}); get the file again") from error
    raw = raw.select(
        *(pl.col(old).alias(new) for new, old in chosen.items()),
        pl.int_range(first, first + pl.len(), dtype=pl.Int64).alias(LINE),
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
