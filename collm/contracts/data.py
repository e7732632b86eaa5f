"""Contract of a dataset plugin: where interactions come from and in which form they enter the harness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from collm.component import ComponentConfig, added_field, location_field

if TYPE_CHECKING:
    import polars as pl

SplitName = Literal["train", "valid", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "valid", "test")
Visibility = Literal["all", "strictly-earlier", "as-of-split"]
SelectedRows = Literal["full", "half", "quarter", "published"]
# The split by each user's last rows, under one name in every dataset, and what `collm validate` says of it.
LAST_OUT = "leave-last-out"
LAST_OUT_LEAKS = "dataset.split leave-last-out lets training rows of some users be later than test rows of others"
CountedRows = Literal["rows", "positives"]
# A boolean column that a dataset may add to its table: validation rows that its publishers selected models on.
PUBLISHED_SELECTION = "published_selection"
# A boolean column that a dataset may add to its table: rows that never happened, drawn as negatives. They are no
# training rows of their item and user where rows are counted (warm and cold), and an item of theirs was not seen.
SAMPLED = "sampled"


class Limit(BaseModel):
    """Draws whole users until a split holds this many rows; null keeps all rows.

    The draw has a seed of its own: runs that differ in their seed must score the same rows to be averaged.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    train: int | None = Field(default=None, ge=1, description="Rows of the training split that encoders may fit on.")
    valid: int | None = Field(
        default=None,
        ge=1,
        description="Rows of the validation split; these alone stop and select encoders and tuning steps.",
    )
    test: int | None = Field(default=None, ge=1, description="Rows of the test split.")
    seed: int = Field(
        default=0,
        ge=0,
        lt=2**32,
        description="Seed of the draw; not the run's seed, so that all seeds of a suite have the same rows.",
    )
    user_rows: int | None = added_field(
        None,
        ge=1,
        description="Validation and test rows of each user at most, drawn at random before users are drawn: more users "
        "in as many rows, so narrower intervals; null keeps all of a user's rows.",
    )

    @property
    def draws(self) -> bool:
        """Returns whether any split is limited."""
        return self.user_rows is not None or any(getattr(self, name) is not None for name in SPLITS)


class DatasetConfig(ComponentConfig):
    """Fields that every dataset has."""

    path: Path | None = location_field(description="Folder, or the zip as published, that holds the raw files.")
    limit: Limit = Field(default=Limit(), description="Row limits per split; whole users are drawn.")


class RawRowsConfig(DatasetConfig):
    """Fields of datasets whose reader sorts out rows that cannot be used (`collm.ingest.bad_rows`)."""

    max_bad_rows: int = Field(
        default=0,
        ge=0,
        description="Unusable rows (wrong types, missing fields, broken text) that the run accepts and leaves out; "
        "with more it stops. They are listed in `quarantine.csv` with file, line and reason either way.",
    )


@dataclass(frozen=True)
class LastOut:
    """How leave-last-out splits.

    Attributes:
        n: Rows per user in test, and as many in validation.
        of: Which rows are counted: all `rows`, or `positives` (label 1) alone.
    """

    n: int = 1
    of: CountedRows = "rows"


class LastOutFields(BaseModel):
    """Fields of settings that offer the split `leave-last-out` (`collm.data.split.split_last_out`)."""

    last_rows: int | None = added_field(
        None,
        ge=1,
        description="leave-last-out: how many of each user's last rows are for test, and as many before them for "
        "validation; 1 where not given.",
    )
    last_of: CountedRows | None = added_field(
        None,
        description="leave-last-out: what `last_rows` counts. rows: all; positives: rows of label 1, and rows of label "
        "0 lie in the split of their time; `rows` where not given.",
    )

    @property
    def last_out(self) -> LastOut:
        """What the fields say, with what is not given filled in."""
        return LastOut(self.last_rows or 1, self.last_of or "rows")

    def check_last_out(self, split: str, shares: Sequence[str] = ()) -> None:
        """Refuses fields that the split does not read; for a validator of the settings.

        Args:
            split: Name of the split that is chosen.
            shares: Fields of other splits, whose values must be their defaults under leave-last-out.

        Raises:
            ValueError: Names the field.
        """
        own = ("last_rows", "last_of")
        if split != LAST_OUT and (given := [name for name in own if getattr(self, name) is not None]):
            raise ValueError(f"{given[0]} belongs to split {LAST_OUT}; with split {split} remove it")
        fields = type(self).model_fields
        changed = [name for name in shares if split == LAST_OUT and getattr(self, name) != fields[name].default]
        if changed:
            raise ValueError(
                f"{changed[0]} is not read with split {LAST_OUT}, which takes {' and '.join(own)}; remove it"
            )


@dataclass(frozen=True)
class InteractionTable:
    """All labelled interactions of one dataset, split, with dense ids.

    Attributes:
        frame: One row per interaction with the columns
            `user` int32 (dense from 1), `item` int32 (dense from 1), `label` int8 (0 or 1), `rating` float32 (null
            where unknown), `timestamp` int64 (seconds since 1970 UTC), `split` text (`train`, `valid`, `test`; null =
            seen in histories only), `row` int64 (source row, unique), `order` int64 (position of the row within its
            user's history; ties in `timestamp` are ordered by it).
        user_ids: Raw user ids as text; index = dense id, index 0 is the padding entry "".
        item_ids: Raw item ids as text; index 0 is "".
        titles: Item titles; index 0 is "".
        tie_rule: How rows with equal timestamps are ordered, in words.
        notes: Sentences that every results table must state, e.g. leakage of a split.
        expected: Count name (`train`, `valid`, `test`, `users`, `items`) -> what the recipe says it must be. A mismatch
            is an error that names both numbers.
        bad_rows: Rows of the source that were left out, columns `file`, `line`, `reason`, `text`; written to
            `quarantine.csv`. None where the source had none.
        user_attributes: What the source says of users, one row per dense id (row 0 is padding: null): columns of
            numbers, booleans, text or lists of these, null where unknown. None where it says nothing.
        item_attributes: The same of items.
        has_times: Whether `timestamp` tells which of two users' rows was first; False where it only stands in for the
            order of a user's rows.
    """

    frame: pl.DataFrame
    user_ids: Sequence[str]
    item_ids: Sequence[str]
    titles: Sequence[str]
    tie_rule: str
    notes: tuple[str, ...] = ()
    expected: Mapping[str, int] = field(default_factory=dict)
    bad_rows: pl.DataFrame | None = None
    user_attributes: pl.DataFrame | None = None
    item_attributes: pl.DataFrame | None = None
    has_times: bool = True


class DatasetSource(Protocol):
    """What a dataset factory returns. Factory: `build(config, *, context: BuildContext) -> DatasetSource`."""

    def content_hash(self) -> str:
        """Returns a hex digest of the source files' bytes; never of their paths or times.

        Raises:
            DataError: If a file is missing; names the file and what to do.
        """
        ...

    def load(self) -> InteractionTable:
        """Reads everything.

        Raises:
            DataError: If a file is malformed or unsafe, or counts differ from the recipe's; `BadRowsError` with
                the rows where more of them are unusable than the spec allows.
        """
        ...


@runtime_checkable
class WrittenSource(DatasetSource, Protocol):
    """A source that may hold its data in the prepared form already: files that are used as they are."""

    def written(self, *, visibility: Visibility, limit: Limit) -> Path | None:
        """Returns the checked folder (docs/large-data.md), or None where it must be prepared from `load`.

        Args:
            visibility: Which history every row must have.
            limit: Rows that the splits must give out at most.

        Raises:
            DataError: If the folder holds something that is not in the form.
        """
        ...
