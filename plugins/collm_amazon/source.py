"""The dataset source: reviews and metadata -> days, listed items, filter, labels, split -> table."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from collm.component import BuildContext
from collm.contracts.data import LAST_OUT, InteractionTable
from collm.data.split import split_by_global_time, split_last_out
from collm.data.table import Attributes, Recipe, build_table, with_order
from collm.errors import DataError
from collm.fetching.fetched import fetched_paths
from collm.files import file_digest
from collm.ingest.bad_rows import BadRows
from collm_amazon import fetch, files, metadata, recipe
from collm_amazon.attributes import read_attributes
from collm_amazon.config import AmazonBookConfig, AmazonConfig
from collm_amazon.reviews import read_reviews

TIE_RULE = "rows of one user at the same moment (for most editions: on the same day) keep the order of the file"

# The 2018 5-core of books, which is the file that the published notebook reads; counts are those that it prints.
BOOK_FILE = "Books_5.json"
BOOK_REVIEWS_2017 = 3_933_994
# Table 1 of the paper, whose users and items include the padding id (fact 26). It prints 727,468 training rows; the
# notebook has 727,463, and only these add up with its 778,957 rows in all.
BOOK_COUNTS = {"train": 727_463, "valid": 25_747, "test": 25_747, "users": 22_966, "items": 34_153}
TABLE_1_NOTE = (
    "Table 1 of the paper prints 727,468 training rows, the notebook of the published code 727,463; the latter is "
    "checked here"
)
NOT_TABLE_1_NOTE = (
    "the counts of Table 1 are those of filter: more-than-once (the published code), not of the settings used here"
)
# Fields of the recipe that decide which reviews are used, and how they are split.
_DECIDING = (
    "category",
    "first_day",
    "end_day",
    "duplicates",
    "user_reviews",
    "item_reviews",
    "split",
    "held_out_from",
    "cut_day",
    "unlisted",
)


def build(config: AmazonConfig, *, context: BuildContext) -> AmazonSource:
    """Builds `amazon` and its recipes."""
    return AmazonSource(config, context)


@dataclass(frozen=True)
class _Files:
    reviews: Path
    metadata: Path | None


class AmazonSource:
    """One category of Amazon reviews."""

    def __init__(self, config: AmazonConfig, context: BuildContext) -> None:
        """Takes the settings and where the cache is; files are looked for when they are read."""
        self._config, self._context = config, context

    def content_hash(self) -> str:
        """Returns a digest of the files' bytes.

        Raises:
            DataError: If a file is missing; names it.
        """
        found = self._files()
        digest = hashlib.sha256(file_digest(found.reviews).encode())
        if found.metadata is not None:
            digest.update(file_digest(found.metadata).encode())
        return digest.hexdigest()

    def look(self) -> None:
        """Looks for the files.

        Raises:
            DataError: If one is missing.
        """
        self._files()

    def load(self) -> InteractionTable:
        """Reads the files and applies the recipe.

        Raises:
            DataError: If a file is missing or is not what it should be, or no reviews are left; `BadRowsError` where
                more rows are unusable than `max_bad_rows`.
        """
        config, found = self._config, self._files()
        bad = BadRows(allowed=config.max_bad_rows)
        reviews = read_reviews(found.reviews, first_day=config.first_day, end_day=config.end_day, bad=bad)
        listed = None if found.metadata is None else metadata.read_metadata(found.metadata, bad=bad)
        bad.check()
        reviews, notes = self._used(reviews, listed, found)
        titles, title_notes = self._titles(listed, reviews)
        label = (pl.col("rating") > config.positive_above).cast(pl.Int8).alias("label")
        finer = with_order(reviews.select("user", pl.col("moment").alias("timestamp"), "row"))
        frame = reviews.with_columns(label, finer["order"])
        split, split_note = self._split(frame)
        frame = frame.with_columns(split.alias("split")).drop("moment")
        table_1, expected = self._expected(found)
        notes = (*config.recipe_notes(), *table_1, *notes, *split_note, *title_notes, *bad.notes())
        known = Attributes(items=self._attributes(found, frame["item"]))
        table = build_table(frame, titles, Recipe(tie_rule=TIE_RULE, notes=notes, expected=expected), known)
        return replace(table, bad_rows=bad.frame() if len(bad) else None)

    def _files(self) -> _Files:
        config = self._config
        if config.path is None and config.reviews is None and config.metadata is None:
            published = fetch.published(config)
            needed = f"dataset.path: '{config.name}' needs {' and '.join(file.name for file in published.files)}"
            otherwise = "give the folder that holds them in dataset.path"
            paths = fetched_paths(published, self._context, needed=needed, otherwise=otherwise)
            return _Files(paths[0], paths[1] if len(paths) > 1 else None)
        names = (config.reviews,) if config.reviews else files.review_names(config.category)
        reviews = files.locate(config.path, names, field="reviews", owner=config.name)
        if config.titles == "none":
            return _Files(reviews, None)
        names = (config.metadata,) if config.metadata else files.metadata_names(config.category)
        return _Files(reviews, files.locate(config.path, names, field="metadata", owner=config.name))

    def _used(
        self, reviews: pl.DataFrame, listed: pl.DataFrame | None, found: _Files
    ) -> tuple[pl.DataFrame, tuple[str, ...]]:
        """Applies the rules that leave reviews out, each with its count."""
        config = self._config
        if reviews.is_empty():
            raise DataError(f"{found.reviews}: no review lies between first_day and end_day ({_days(config)})")
        notes: list[str] = []
        if listed is not None:
            is_listed = pl.col("item").is_in(listed["item"].unique().implode())
            unlisted = reviews.filter(~is_listed)
            if unlisted.height and config.unlisted == "drop":
                reviews = reviews.filter(is_listed)
            if unlisted.height:
                done = "dropped" if config.unlisted == "drop" else "kept as 'item <id>'"
                n_items = unlisted["item"].n_unique()
                notes.append(
                    f"reviews of items that the metadata does not list: {unlisted.height} (of {n_items} items), {done}"
                )
        self._check_edition(reviews, found)
        no_stars = int((reviews["rating"] == 0).sum())
        if no_stars:
            notes.append(f"reviews without stars (rating 0): {no_stars}, counted as label 0")
        newest = recipe.newest_of_each_pair(reviews)
        if n_more := reviews.height - newest.height:
            done = "kept" if config.duplicates == "keep-all" else "left out (the newest counts)"
            notes.append(f"reviews that repeat a user and item: {n_more}, {done}")
        reviews = reviews if config.duplicates == "keep-all" else newest
        filtered = recipe.frequent(reviews, rule=config.filter, users=config.user_reviews, items=config.item_reviews)
        if filtered.is_empty():
            raise DataError(
                f"{found.reviews}: filter {config.filter} with user_reviews {config.user_reviews} and item_reviews "
                f"{config.item_reviews} leaves none of {reviews.height} reviews ({_days(config)}); lower them"
            )
        notes.append(f"{self._filter_words()}: {filtered.height} of {reviews.height} reviews are left")
        return filtered, tuple(notes)

    def _filter_words(self) -> str:
        config = self._config
        if config.filter == "k-core":
            return (
                f"users with fewer than {config.user_reviews} and items with fewer than {config.item_reviews} reviews "
                "are removed until none is left"
            )
        return (
            f"users with more than {config.user_reviews} and items with more than {config.item_reviews} reviews are "
            "kept, counted once"
        )

    def _titles(self, listed: pl.DataFrame | None, reviews: pl.DataFrame) -> tuple[pl.DataFrame, tuple[str, ...]]:
        if listed is None:
            empty = pl.DataFrame(schema={"item": pl.String, "title": pl.String})
            return empty, ("titles: none: prompts show item ids",)
        return metadata.titles_of(listed, reviews["item"].unique(), clean=self._config.titles == "cleaned")

    def _attributes(self, found: _Files, items: pl.Series) -> pl.DataFrame | None:
        names = self._config.item_attributes
        if not names or found.metadata is None:
            return None
        return read_attributes(found.metadata, names, items)

    def _split(self, reviews: pl.DataFrame) -> tuple[pl.Series, tuple[str, ...]]:
        config = self._config
        if config.split == LAST_OUT:
            return split_last_out(reviews, config.last_out)
        if config.split == "shares":
            shares = {"valid": config.valid_share, "test": config.test_share}
            return split_by_global_time(reviews["timestamp"], **shares), ()
        assert config.held_out_from is not None
        split, sentence = recipe.split_held_out(
            reviews, held_out_from=config.held_out_from, divide_day=config.cut_day == "divided"
        )
        return split, (sentence,)

    def _is_book_edition(self, found: _Files) -> bool:
        named = found.reviews.name.removesuffix(".gz") == BOOK_FILE and found.metadata is not None
        return named and self._config.edition == "published"

    def _check_edition(self, reviews: pl.DataFrame, found: _Files) -> None:
        """Compares the reviews of 2017 on listed items with what the published notebook counts."""
        defaults = AmazonBookConfig.model_fields
        whole_year = all(getattr(self._config, name) == defaults[name].default for name in ("first_day", "end_day"))
        if not (self._is_book_edition(found) and whole_year and self._config.unlisted == "drop"):
            return
        if reviews.height != BOOK_REVIEWS_2017:
            raise DataError(
                f"{found.reviews}: found {reviews.height} reviews of 2017 on items that the metadata lists, the "
                f"published edition has {BOOK_REVIEWS_2017}: get Books_5.json.gz and meta_Books.json.gz of 2018 again, "
                "or set dataset.edition: unchecked for other content"
            )

    def _expected(self, found: _Files) -> tuple[tuple[str, ...], Mapping[str, int]]:
        """Returns a note on Table 1 and its counts, where files and settings are those that it was made with."""
        config, defaults = self._config, AmazonBookConfig.model_fields
        if not self._is_book_edition(found):
            return (), {}
        same = all(getattr(config, name) == defaults[name].default for name in _DECIDING)
        if same and config.filter == "more-than-once":
            return (TABLE_1_NOTE,), BOOK_COUNTS
        return (NOT_TABLE_1_NOTE,), {}


def _days(config: AmazonConfig) -> str:
    return f"from {config.first_day or 'the beginning'} up to {config.end_day or 'the end'}"
