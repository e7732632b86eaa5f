"""Settings of the Amazon datasets. A recipe is the general dataset with other defaults."""

from __future__ import annotations

import re
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from collm.component import added_field, location_field
from collm.contracts.data import LAST_OUT, LAST_OUT_LEAKS, LastOutFields, RawRowsConfig

Duplicates = Literal["keep-last", "keep-all"]
FilterRule = Literal["k-core", "more-than-once"]
SplitRule = Literal["shares", "held-out", "leave-last-out"]
ItemAttribute = Literal["category", "brand", "description", "price"]
CutDay = Literal["divided", "whole"]
Release = Literal["2014-all", "2014-5-core", "2018-all", "2018-5-core", "2023-all"]
# Fields that decide which files `collm fetch` gets.
FETCH_FIELDS = ("category", "release", "titles")

# The sentence is shown in every table that such a run enters.
NO_RECIPE = (
    "the paper gives no recipe for this category; here all its reviews are used, 5-core and split by time, so that the "
    "rows are not the paper's"
)


class AmazonConfig(LastOutFields, RawRowsConfig):
    """Reviews and metadata of one category as published: JSON lines, gz or not, of 2014, 2018 or 2023."""

    path: Path | None = location_field(
        description="Folder that holds the reviews and the metadata file; null = what `collm fetch` left in the cache."
    )
    release: Release = Field(
        default="2018-5-core",
        description="Files that `collm fetch` gets, and that are read where `path` is null: year, and whether all "
        "reviews or those of users and items with five and more.",
    )
    category: str = Field(
        min_length=1, description="Category as in the file names, e.g. `Gift_Cards`; `Gift Cards` is understood too."
    )
    reviews: str | None = Field(
        default=None, description="Name of the reviews file; null = the one that the category's name gives."
    )
    metadata: str | None = Field(
        default=None, description="Name of the metadata file; null = the one that the category's name gives."
    )
    positive_above: float = Field(
        default=4.0, ge=0, lt=5, description="A rating greater than this, in stars from 1 to 5, is label 1."
    )
    first_day: date | None = Field(
        default=None, description="First day (UTC) of which reviews are used; null = from the beginning."
    )
    end_day: date | None = Field(
        default=None, description="First day (UTC) of which reviews are no longer used; null = up to the end."
    )
    duplicates: Duplicates = Field(
        default="keep-last",
        description="Reviews of one user on one item: keep-last keeps the newest, of one moment the last in the file; "
        "keep-all keeps them all, so that an item may appear in the history of its own row.",
    )
    filter: FilterRule = Field(
        default="k-core",
        description="k-core: users and items with fewer reviews than `user_reviews` and `item_reviews` are removed "
        "until none is left; more-than-once: all with no more than these numbers are removed, counted once before "
        "anything is removed (what the published code does).",
    )
    user_reviews: int = Field(default=5, ge=0, description="Reviews that `filter` asks of a user; 0 = any.")
    item_reviews: int = Field(default=5, ge=0, description="Reviews that `filter` asks of an item; 0 = any.")
    split: SplitRule = Field(
        default="shares",
        description="shares: two moments for all, by `valid_share` and `test_share`; held-out: reviews from "
        "`held_out_from` on are halved by time into validation and test; leave-last-out: each user's last `last_rows` "
        "(leaks across users).",
    )
    valid_share: float = Field(default=0.1, gt=0, lt=1, description="Share of reviews in validation (split shares).")
    test_share: float = Field(default=0.1, gt=0, lt=1, description="Share of reviews in test (split shares).")
    held_out_from: date | None = Field(
        default=None, description="First day (UTC) after training (split held-out); null with split shares."
    )
    cut_day: CutDay = Field(
        default="whole",
        description="With split held-out, the day between validation and test: divided = halves of equal size, its "
        "reviews in the order of the file; whole = all its reviews are test.",
    )
    titles: Literal["cleaned", "as-published", "none"] = Field(
        default="cleaned",
        description="cleaned: HTML entities are decoded, formatting tags removed, blanks joined; as-published: only "
        "blanks at the ends are removed; none: no metadata is read, items are called by their ids.",
    )
    unlisted: Literal["drop", "keep"] = Field(
        default="drop",
        description="Reviews of items that the metadata does not list: drop them before filtering, or keep them under "
        "the name `item <id>`.",
    )
    edition: Literal["published", "unchecked"] = Field(
        default="published",
        description="published: a file named as one of which the counts are known must have them; unchecked: other "
        "content under that name.",
    )
    item_attributes: tuple[ItemAttribute, ...] = added_field(
        (),
        description="What encoders may see of items beside titles: category (a list, from broad to narrow), brand, "
        "description (text), price (US dollars); of the metadata file.",
    )

    @field_validator("category")
    @classmethod
    def _as_in_file_names(cls, value: str) -> str:
        return re.sub(r"[^0-9A-Za-z]+", "_", value.replace("&", " and ")).strip("_")

    @field_validator("reviews", "metadata")
    @classmethod
    def _is_a_name(cls, value: str | None) -> str | None:
        if value is not None and (not value or value != Path(value).name):
            raise ValueError(f"got '{value}', expected the name of a file in dataset.path, without folders")
        return value

    @field_validator("item_attributes", mode="after")
    @classmethod
    def _are_in_the_metadata(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if value and info.data.get("titles") == "none":
            raise ValueError(
                "attributes appear in the metadata, which `titles: none` does not read; choose other titles"
            )
        return value

    @model_validator(mode="after")
    def _split_reads_its_fields(self) -> AmazonConfig:
        self.check_last_out(self.split, shares=("valid_share", "test_share"))
        if self.split == LAST_OUT and self.held_out_from is not None:
            raise ValueError(
                f"held_out_from belongs to split held-out; with split {LAST_OUT} write held_out_from: null"
            )
        return self

    @model_validator(mode="after")
    def _days_in_order(self) -> AmazonConfig:
        if self.split == "held-out" and self.held_out_from is None:
            raise ValueError("split held-out needs held_out_from, the first day after training")
        if self.split == "shares" and self.held_out_from is not None:
            raise ValueError("held_out_from belongs to split held-out; with split shares leave it out")
        if self.split == "shares" and self.valid_share + self.test_share >= 1:
            raise ValueError("valid_share and test_share must sum to less than 1")
        days = [("first_day", self.first_day), ("held_out_from", self.held_out_from), ("end_day", self.end_day)]
        given = [(name, day) for name, day in days if day is not None]
        for (name, day), (later, later_day) in pairwise(given):
            if day >= later_day:
                raise ValueError(f"{name} {day} must be before {later} {later_day}")
        return self

    def warnings(self) -> tuple[str, ...]:
        """Returns how the split leaks, where it does."""
        return (LAST_OUT_LEAKS,) if self.split == LAST_OUT else ()

    def recipe_notes(self) -> tuple[str, ...]:
        """Returns what every results table must state of the recipe itself."""
        return ()


def _changed(field: str, default: Any) -> Any:
    """The field of `AmazonConfig` with another default."""
    info = AmazonConfig.model_fields[field]
    names = ("ge", "gt", "le", "lt", "min_length")
    bounds = {name: getattr(each, name) for each in info.metadata for name in names if hasattr(each, name)}
    return Field(default=default, description=info.description, **bounds)


class AmazonBookConfig(AmazonConfig):
    """Books of 2017; users and items with fewer than 20 reviews removed; 11 months of training, December halved."""

    category: str = _changed("category", "Books")
    first_day: date | None = _changed("first_day", date(2017, 1, 1))
    end_day: date | None = _changed("end_day", date(2018, 1, 1))
    duplicates: Duplicates = _changed("duplicates", "keep-all")
    user_reviews: int = _changed("user_reviews", 20)
    item_reviews: int = _changed("item_reviews", 20)
    split: SplitRule = _changed("split", "held-out")
    held_out_from: date | None = _changed("held_out_from", date(2017, 12, 1))
    cut_day: CutDay = _changed("cut_day", "divided")


class VideoGamesConfig(AmazonConfig):
    """Video games: all reviews of the category."""

    category: str = _changed("category", "Video_Games")

    def recipe_notes(self) -> tuple[str, ...]:
        """Returns that the recipe is not the paper's."""
        return (NO_RECIPE,)


class CdsAndVinylConfig(AmazonConfig):
    """CDs and vinyl: all reviews of the category."""

    category: str = _changed("category", "CDs_and_Vinyl")

    def recipe_notes(self) -> tuple[str, ...]:
        """Returns that the recipe is not the paper's."""
        return (NO_RECIPE,)
