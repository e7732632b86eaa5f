"""The rows of the interactions file as canonical columns; a value that cannot be meant makes its row a bad one."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from collm.errors import DataError
from collm.ingest.bad_rows import BadRows
from collm.ingest.ids import id_fault, one_spelling
from collm.ingest.label_values import labels_of, not_rated, numbers_of, odd_values, shown_counts
from collm.ingest.read_rows import read_rows, sample_file
from collm.ingest.table_files import table_format
from collm.ingest.times import FIRST_YEAR, LAST_YEAR, TimeForm, recognise_times
from collm.ingest.typed_rows import WantedColumns, without

IDS = ("user", "item")
# Begins the canonical name of a column that is read as it is.
ATTRIBUTE = "attribute "
_MOST_BAD_LABELS = 0.05
_SPLITS = {"train": "train", "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid", "test": "test"}


def read_columns(
    path: Path, names: Mapping[str, str], *, required: tuple[str, ...], bad: BadRows, encoding: str | None = None
) -> pl.DataFrame:
    """Reads columns of a file under their canonical names, in types that lose nothing.

    Args:
        path: The file.
        names: Canonical name -> the file's name.
        required: Canonical names that must have a value in every row.
        bad: Takes the rows that cannot be used.
        encoding: Of lines that are not UTF-8.

    Returns:
        The canonical columns and `line` int64. Ids, titles and splits are text, ratings float64; times and labels are
        as in the file.

    Raises:
        DataError: If the file cannot be read or lacks a column; names what it has. If ids have lost digits, or one is
            written in two ways.
    """
    schema = sample_file(path, encoding=encoding).rows.schema
    check_names(path, names, list(schema))
    json = table_format(path) == "json"
    dtypes = {name: _dtype(name, schema[theirs], json=json) for name, theirs in names.items()}
    fields = {name: (theirs,) for name, theirs in names.items()}
    ids = [name for name in IDS if name in names]
    frame = read_rows(path, WantedColumns(fields, dtypes, required, ids), bad=bad, encoding=encoding)
    fault = pl.coalesce(*(id_fault(name) for name in ids))
    frame = _without(frame, fault, path.name, bad)
    settled = [one_spelling(frame[name], frame["line"], name=names[name], path=path) for name in ids]
    texts = [name for name in ("title", "split") if name in names]
    frame = frame.with_columns(*settled, pl.col(texts).cast(pl.String))
    return _with_numbers(frame, path.name, bad) if "rating" in names else frame


def _with_numbers(frame: pl.DataFrame, file: str, bad: BadRows) -> pl.DataFrame:
    """Reads ratings that JSON holds as text."""
    if frame.schema["rating"] != pl.String:
        return frame
    numbers = numbers_of(frame["rating"])
    fault = pl.when(frame["rating"].is_not_null() & numbers.is_null()).then(pl.lit("rating is not a number"))
    return (
        _without(frame.with_columns(numbers.alias("number")), fault, file, bad)
        .with_columns(rating=pl.col("number"))
        .drop("number")
    )


def check_names(path: Path | str, names: Mapping[str, str], available: list[str]) -> None:
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
        field = "attributes" if name.startswith(ATTRIBUTE) else f"columns.{name}"
        missing.append(f"dataset.{field}: no column '{theirs}'{hint}")
    if missing:
        has = ", ".join(available)
        raise DataError(f"{path}: {'; '.join(missing)}; the file has {has}")


def sound_ratings(
    frame: pl.DataFrame, *, lowest: float | None, highest: float | None, file: str, bad: BadRows
) -> pl.DataFrame:
    """Takes out the rows whose rating is not a finite number or outside the bounds."""
    rating = pl.col("rating")
    faults = [pl.when(~rating.is_finite()).then(pl.lit("rating is not finite"))]
    if lowest is not None:
        faults.append(pl.when(rating < lowest).then(pl.lit(f"rating is below {lowest:g}")))
    if highest is not None:
        faults.append(pl.when(rating > highest).then(pl.lit(f"rating is above {highest:g}")))
    return _without(frame, pl.coalesce(*faults), file, bad)


def without_unrated(
    frame: pl.DataFrame, values: Sequence[float], *, label_from_rating: bool
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Takes out the rows whose rating means that there is none, and says of others that it may.

    Args:
        frame: Rows with `rating`.
        values: Ratings that mean "not rated".
        label_from_rating: Whether a rating decides the label; else odd values hurt nothing.

    Returns:
        The rows, and notes.
    """
    unrated = pl.col("rating").is_in(list(values))
    notes: list[str] = []
    if n_unrated := int(frame.select(unrated.sum()).item()) if values else 0:
        notes.append(f"{n_unrated:,} rows whose rating means 'not rated' ({not_rated(values)}) are left out")
        frame = frame.filter(~unrated.fill_null(False))
    odd = odd_values(frame["rating"]) if label_from_rating else []
    notes += [
        f"{each.said()}; dataset.label.not_rated: {not_rated([each.value])} leaves these rows out" for each in odd
    ]
    return frame, tuple(notes)


def with_label_column(frame: pl.DataFrame, *, column: str, file: str, bad: BadRows) -> pl.DataFrame:
    """Reads `label` as int8 0 or 1, from numbers, booleans or words; anything else is a bad row.

    Raises:
        DataError: If more than a few values are neither; shows them.
    """
    label = labels_of(frame["label"])
    n_unknown = int((label.is_null() & frame["label"].is_not_null()).sum())
    if n_unknown > max(1, _MOST_BAD_LABELS * frame.height):
        raise DataError(
            f"{file}: dataset.columns.label: '{column}' holds {shown_counts(frame['label'])}: which of them is a like "
            "and which a dislike is not known. Readable are 1 and 0, 1 and -1, true/false, yes/no, t/f, y/n, "
            "like/dislike and words such as positive/negative; or make a 0/1 column. Where it is a rating, use "
            "columns.rating and {from: rating, positive_above: ...}"
        )
    fault = pl.when(label.is_null()).then(pl.lit("label is not 0 or 1"))
    return (
        _without(frame.with_columns(label.alias("known")), fault, file, bad)
        .with_columns(label=pl.col("known"))
        .drop("known")
    )


def with_split_column(frame: pl.DataFrame, *, file: str, bad: BadRows) -> pl.DataFrame:
    """Reads `split`; empty means: seen in histories only; an unknown name is a bad row."""
    name = pl.col("split").str.to_lowercase()
    fault = pl.when(name.is_not_null() & ~name.is_in(list(_SPLITS))).then(
        pl.lit("split is not one of train, valid, test")
    )
    return _without(frame, fault, file, bad).with_columns(name.replace(_SPLITS).alias("split"))


def with_times(
    frame: pl.DataFrame, *, column: str, form: TimeForm, file: str, bad: BadRows
) -> tuple[pl.DataFrame, str]:
    """Turns `timestamp` into int64 seconds and adds `moment`, int64 microseconds.

    Returns:
        The rows with a possible time, and what was recognised.

    Raises:
        DataError: If the column holds no times.
    """
    try:
        times = recognise_times(frame["timestamp"], form)
    except DataError as error:
        raise DataError(
            f"{file}: dataset.columns.timestamp: '{column}' is {error}. Where it is not a time, set it to null"
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


def _dtype(name: str, found: pl.DataType, *, json: bool) -> pl.DataType:
    if name == "rating":
        return pl.String() if found == pl.String and json else pl.Float64()
    if name in ("timestamp", "label") or name.startswith(ATTRIBUTE):
        return found
    # Numbers as ids stay numbers while reading: in JSON a number where text is wanted would be a wrong type.
    return pl.Int64() if found.is_integer() else pl.String()
