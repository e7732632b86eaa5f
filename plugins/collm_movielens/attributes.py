"""What MovieLens says of films and users beside titles: genres and years, gender, age, occupation and zip code."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from collm.errors import DataError
from collm_movielens.readers import fields_of_lines

# The flags at the end of a line of `u.item`, in their order.
GENRES_100K = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *("Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
NO_GENRES = "(no genres listed)"
_YEAR = r"\((\d{4})\)\s*$"


def years(titles: pl.DataFrame) -> pl.DataFrame:
    """Returns `item` and `year` int32, the number in brackets at the end of a title; null where there is none."""
    return titles.select("item", pl.col("title").str.extract(_YEAR).cast(pl.Int32).alias("year"))


def read_dat_genres(data: bytes, *, file: str) -> pl.DataFrame:
    """Reads `item` and `genres` of `MovieID::Title::Genres` lines (MovieLens-1M)."""
    return _listed(fields_of_lines(data, file=file, separator="::"), file=file)


def read_csv_genres(data: bytes, *, file: str) -> pl.DataFrame:
    """Reads `item` and `genres` of `movieId,title,genres` with a header (latest-small)."""
    return _listed(fields_of_lines(data, file=file, separator=",", header=("movieId", "title", "genres")), file=file)


def read_pipe_genres(data: bytes, *, file: str) -> pl.DataFrame:
    """Reads `item` and `genres` of the flags at the end of `id|title|...` lines (MovieLens-100K)."""
    fields = fields_of_lines(data, file=file, separator="|")
    if fields.width != 5 + len(GENRES_100K):
        raise DataError(
            f"{file}: has {fields.width} fields per line, expected 5 and {len(GENRES_100K)} flags of genres"
        )
    flags = fields.columns[5:]
    genres = pl.concat_list(
        pl.when(pl.col(flag) == "1").then(pl.lit(name)) for flag, name in zip(flags, GENRES_100K, strict=True)
    ).list.drop_nulls()
    return fields.select(_item(fields.columns[0]), genres.alias("genres"))


def read_dat_users(data: bytes, *, file: str) -> pl.DataFrame:
    """Reads `UserID::Gender::Age::Occupation::Zip` lines (MovieLens-1M)."""
    names = ("user", "gender", "age", "occupation", "zip")
    return _users(fields_of_lines(data, file=file, separator="::"), names, file=file)


def read_pipe_users(data: bytes, *, file: str) -> pl.DataFrame:
    """Reads `id|age|gender|occupation|zip` lines (MovieLens-100K)."""
    names = ("user", "age", "gender", "occupation", "zip")
    return _users(fields_of_lines(data, file=file, separator="|"), names, file=file)


def _listed(fields: pl.DataFrame, *, file: str) -> pl.DataFrame:
    if fields.width < 3:
        raise DataError(f"{file}: has {fields.width} fields per line, expected id, title and genres")
    item, _, genres = fields.columns[:3]
    known = pl.when(pl.col(genres) != NO_GENRES).then(pl.col(genres))
    return fields.select(_item(item), known.str.split("|").alias("genres"))


def _users(fields: pl.DataFrame, names: Sequence[str], *, file: str) -> pl.DataFrame:
    if fields.width != len(names):
        raise DataError(f"{file}: has {fields.width} fields per line, expected {', '.join(names)}")
    named = fields.rename(dict(zip(fields.columns, names, strict=True)))
    return named.with_columns(pl.col("user").cast(pl.Int64, strict=False), pl.col("age").cast(pl.Int32, strict=False))


def _item(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.Int64, strict=False).alias("item")
