"""Readers of the raw MovieLens formats: ratings (user, item, rating, timestamp, row) and titles (item, title)."""

from __future__ import annotations

import polars as pl

from collm.errors import DataError

_INTEGER, _NUMBER = "a whole number", "a number from 0.5 to 5"


def read_dat_ratings(data: bytes, *, file: str) -> pl.DataFrame:
    """Reads `UserID::MovieID::Rating::Timestamp` lines (MovieLens-1M)."""
    return _ratings(_fields(data.replace(b"::", b"\t"), file=file, separator="\t"), file=file, first_line=1)


def read_dat_titles(data: bytes, *, file: str) -> pl.DataFrame:
    """Reads `MovieID::Title::Genres` lines in latin-1 (MovieLens-1M)."""
    return _titles(_fields(_recode(data).replace(b"::", b"\t"), file=file, separator="\t"), file=file)


def read_tab_ratings(data: bytes, *, file: str) -> pl.DataFrame:
    """Reads user, item, rating, time separated by tabs (MovieLens-100K)."""
    return _ratings(_fields(data, file=file, separator="\t"), file=file, first_line=1)


def read_pipe_titles(data: bytes, *, file: str) -> pl.DataFrame:
    """Reads `id|title|...` lines in latin-1 (MovieLens-100K)."""
    return _titles(_fields(_recode(data), file=file, separator="|"), file=file)


def read_csv_ratings(data: bytes, *, file: str) -> pl.DataFrame:
    """Reads `userId,movieId,rating,timestamp` with a header (latest-small)."""
    fields = _fields(data, file=file, separator=",", header=("userId", "movieId", "rating", "timestamp"))
    return _ratings(fields, file=file, first_line=2)


def read_csv_titles(data: bytes, *, file: str) -> pl.DataFrame:
    """Reads `movieId,title,genres` with a header (latest-small)."""
    return _titles(_fields(data, file=file, separator=",", header=("movieId", "title")), file=file)


def check_ratings(fields: pl.DataFrame, *, file: str, first_line: int) -> pl.DataFrame:
    """Turns text columns user, item, rating, timestamp into numbers and adds `row`, the 0-based place in the file.

    Args:
        fields: Four text columns, one row per line.
        file: File name for messages.
        first_line: 1-based line of the first row.

    Raises:
        DataError: Naming the first bad line, what it holds and what is allowed.
    """
    typed = fields.select(
        pl.col("user").cast(pl.Int64, strict=False),
        pl.col("item").cast(pl.Int64, strict=False),
        pl.col("rating").cast(pl.Float32, strict=False),
        pl.col("timestamp").cast(pl.Int64, strict=False),
        pl.int_range(pl.len(), dtype=pl.Int64).alias("row"),
    )
    sound = {
        "user": (pl.col("user") >= 0, _INTEGER),
        "item": (pl.col("item") >= 0, _INTEGER),
        "rating": (pl.col("rating").is_between(0.5, 5), _NUMBER),
        "timestamp": (pl.col("timestamp") > 0, "seconds since 1970, a whole number"),
    }
    for name, (rule, allowed) in sound.items():
        bad = typed.select((~rule).fill_null(True).arg_true().first()).item()
        if bad is not None:
            raise DataError(f"{file}:{bad + first_line}: {name}: got '{fields[name][bad]}', expected {allowed}")
    return typed


def _fields(data: bytes, *, file: str, separator: str, header: tuple[str, ...] = ()) -> pl.DataFrame:
    """Splits lines into text columns; quotes mean something only in files with a header (CSV)."""
    try:
        quote = '"' if header else None
        fields = pl.read_csv(data, separator=separator, has_header=bool(header), infer_schema=False, quote_char=quote)
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{file}: not lines of fields separated by {separator!r}: {reason}") from error
    if missing := [name for name in header if name not in fields.columns]:
        raise DataError(f"{file}:1: column '{missing[0]}' is missing; found {', '.join(fields.columns[:8])}")
    return fields.select(header) if header else fields


def fields_of_lines(data: bytes, *, file: str, separator: str, header: tuple[str, ...] = ()) -> pl.DataFrame:
    """Splits lines in UTF-8, or latin-1 where there is no header, into text columns.

    Raises:
        DataError: If they cannot be split, or a column of the header is missing.
    """
    if header:
        return _fields(data, file=file, separator=separator, header=header)
    if separator == "::":
        return _fields(_recode(data).replace(b"::", b"\t"), file=file, separator="\t")
    return _fields(_recode(data), file=file, separator=separator)


def _ratings(fields: pl.DataFrame, *, file: str, first_line: int) -> pl.DataFrame:
    if fields.width < 4:
        raise DataError(f"{file}:{first_line}: has {fields.width} fields, expected user, item, rating and time")
    columns = dict(zip(("user", "item", "rating", "timestamp"), fields.columns, strict=False))
    named = fields.select(pl.col(old).alias(new) for new, old in columns.items())
    return check_ratings(named, file=file, first_line=first_line)


def _titles(fields: pl.DataFrame, *, file: str) -> pl.DataFrame:
    if fields.width < 2:
        raise DataError(f"{file}: has {fields.width} field per line, expected an id and a title")
    named = fields.select(
        pl.col(fields.columns[0]).cast(pl.Int64, strict=False).alias("item"), pl.col(fields.columns[1]).alias("title")
    )
    if named["item"].null_count():
        line = int(named["item"].is_null().arg_true()[0])
        raise DataError(f"{file}: row {line + 1}: id: got '{fields[fields.columns[0]][line]}', expected {_INTEGER}")
    return named


def _recode(data: bytes) -> bytes:
    return data.decode("latin-1").encode("utf-8")
