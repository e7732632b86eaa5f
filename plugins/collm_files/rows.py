"""The rows of the interactions file as canonical columns; a value that cannot be meant makes its row a bad one."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from collm.data.bad_rows import BadRows
from collm.data.read_rows import read_rows, sample_file
from collm.data.times import FIRST_YEAR, LAST_YEAR, recognise_times
from collm.data.typed_rows import without
from collm.errors import DataError

_TRUE, _FALSE = ("1", "1.0", "true", "True", "TRUE"), ("0", "0.0", "false", "False", "FALSE")
_SPLITS = {"train": "train", "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid", "test": "test"}


def read_columns(path: Path, names: Mapping[str, str], *, required: tuple[str, ...], bad: BadRows) -> pl.DataFrame:
    """Reads columns of a file under their canonical names, in types that lose nothing.

    Args:
        path: The file.
        names: Canonical name -> the file's name.
        required: Canonical names that must have a value in every row.
        bad: Takes the rows that cannot be used.

    Returns:
        The canonical columns and `line` int64. Ids, titles and splits are text, ratings float64; times and labels are
        as in the file.

    Raises:
        DataError: If the file cannot be read or lacks a column; names what it has.
    """
    schema = sample_file(path).rows.schema
    check_names(path, names, list(schema))
    dtypes = {name: _dtype(name, schema[theirs]) for name, theirs in names.items()}
    fields = {name: (theirs,) for name, theirs in names.items()}
    frame = read_rows(path, fields=fields, dtypes=dtypes, required=required, bad=bad)
    texts = [name for name in ("user", "item", "title", "split") if name in names]
    return frame.with_columns(pl.col(texts).cast(pl.String))


def check_names(path: Path, names: Mapping[str, str], available: list[str]) -> None:
    """Checks that a file has the columns that the spec names.

    Raises:
        DataError: With every name that it lacks, the nearest one, and all that it has.
    """
    missing = []
    for name, theirs in names.items():
        if theirs in available:
            continue
        close = difflib.get_close_matches(theirs, available, n=1, cutoff=0.5)
        hint = f" (did you mean '{close[0]}'?)" if close else ""
        missing.append(f"dataset.columns.{name}: no column '{theirs}'{hint}")
    if missing:
        has = ", ".join(available)
        raise DataError(f"{path}: {'; '.join(missing)}; the file has {has}")


def sound_ratings(
    frame: pl.DataFrame, *, lowest: float | None, highest: float | None, file: str, bad: BadRows
) -> pl.DataFrame:
    """Takes out the rows whose rating is no finite number or outside the bounds."""
    rating = pl.col("rating")
    faults = [pl.when(~rating.is_finite()).then(pl.lit("rating is not finite"))]
    if lowest is not None:
        faults.append(pl.when(rating < lowest).then(pl.lit(f"rating is below {lowest:g}")))
    if highest is not None:
        faults.append(pl.when(rating > highest).then(pl.lit(f"rating is above {highest:g}")))
    return _without(frame, pl.coalesce(*faults), file, bad)


def with_label_column(frame: pl.DataFrame, *, file: str, bad: BadRows) -> pl.DataFrame:
    """Reads `label` as int8 0 or 1, from numbers, booleans or text; anything else is a bad row."""
    text = pl.col("label").cast(pl.String)
    label = pl.when(text.is_in(_TRUE)).then(1).when(text.is_in(_FALSE)).then(0).cast(pl.Int8)
    fault = pl.when(label.is_null()).then(pl.lit("label is not 0 or 1"))
    return _without(frame, fault, file, bad).with_columns(label.alias("label"))


def with_split_column(frame: pl.DataFrame, *, file: str, bad: BadRows) -> pl.DataFrame:
    """Reads `split`; empty means: seen in histories only; an unknown name is a bad row."""
    name = pl.col("split").str.to_lowercase()
    fault = pl.when(name.is_not_null() & ~name.is_in(list(_SPLITS))).then(
        pl.lit("split is not one of train, valid, test")
    )
    return _without(frame, fault, file, bad).with_columns(name.replace(_SPLITS).alias("split"))


def with_times(frame: pl.DataFrame, *, column: str, file: str, bad: BadRows) -> tuple[pl.DataFrame, str]:
    """Turns `timestamp` into int64 seconds and adds `moment`, int64 microseconds.

    Returns:
        The rows with a possible time, and what was recognised.

    Raises:
        DataError: If the column holds no times.
    """
    try:
        times = recognise_times(frame["timestamp"])
    except DataError as error:
        raise DataError(
            f"{file}: dataset.columns.timestamp: '{column}' is {error}. Where it is no time, set it to null"
        ) from error
    known = frame.with_columns(
        times.seconds().alias("timestamp"), times.microseconds.alias("moment"), times.unreadable.alias("unreadable")
    )
    fault = (
        pl.when("unreadable")
        .then(pl.lit("timestamp is not a time"))
        .when(pl.col("moment").is_null())
        .then(pl.lit(f"timestamp lies before {FIRST_YEAR} or after {LAST_YEAR}"))
    )
    shown = frame
    sound = without(known, fault, file=file, bad=bad, text_of=lambda place: _row_text(shown, place))
    return sound.drop("unreadable"), times.form


def _without(frame: pl.DataFrame, fault: pl.Expr, file: str, bad: BadRows) -> pl.DataFrame:
    return without(frame, fault, file=file, bad=bad, text_of=lambda place: _row_text(frame, place))


def _row_text(frame: pl.DataFrame, place: int) -> str:
    row = frame.drop("line").row(place, named=True)
    return ", ".join(f"{name}={'' if value is None else value}" for name, value in row.items())


def _dtype(name: str, found: pl.DataType) -> pl.DataType:
    if name == "rating":
        return pl.Float64()
    if name in ("timestamp", "label"):
        return found
    # Numbers as ids stay numbers while reading: in JSON a number where text is wanted would be a wrong type.
    return pl.Int64() if found.is_integer() else pl.String()
