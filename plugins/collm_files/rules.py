"""What the columns of your own files mean: their names, what counts as a positive, which rows are split off."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model, field_validator, model_validator

from collm.component import added_field
from collm.contracts.data import LAST_OUT, LastOutFields

DEFAULT_SHARE = 0.1
HOW_POSITIVES = "label: {from: positives, negatives: {per_positive: 1, by: uniform, seed: 0}}"
IMPLICIT = (
    "implicit feedback (positives only). The question is whether a user likes an item, so rows with label 0 are "
    f"needed, too; write {HOW_POSITIVES} to have them drawn by that rule (uniform or popularity), which every table "
    "then states"
)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class Columns(_Part):
    """What the columns of the files are called."""

    user: str = Field(default="user", min_length=1, description="Column of the user id.")
    item: str = Field(default="item", min_length=1, description="Column of the item id, in both files.")
    rating: str | None = Field(default=None, min_length=1, description="Column of the rating; null = there is none.")
    timestamp: str | None = Field(
        default=None,
        min_length=1,
        description="Column of the time: seconds, milliseconds, microseconds or nanoseconds since 1970, or dates as "
        "text; null = there is none, and history follows the order of the file.",
    )
    title: str | None = Field(
        default=None, min_length=1, description="Column of the title, in `items` if given; null = items have no titles."
    )
    label: str | None = Field(
        default=None,
        min_length=1,
        description="Column of a ready label: 0/1, -1/1, yes/no, like/dislike and the like; null = none.",
    )
    split: str | None = Field(
        default=None, min_length=1, description="Column that says train, valid or test; null = there is none."
    )
    items_key: str | None = Field(
        default=None, min_length=1, description="Column of the item id in `items`; null = called as in `item`."
    )
    users_key: str | None = added_field(
        None, description="Column of the user id in `users`; null = called as in `user`."
    )

    @model_validator(mode="after")
    def _one_role_each(self) -> Columns:
        seen: dict[str, str] = {}
        for role in ("user", "item", "rating", "timestamp", "label", "split"):
            name = getattr(self, role)
            if name is not None and name in seen:
                raise ValueError(f"'{name}' is named for both {seen[name]} and {role}")
            if name is not None:
                seen[name] = role
        return self


class NegativesRule(_Part):
    """Which items count as not liked where every row is a positive; drawn after the split (docs/data.md)."""

    per_positive: int = Field(default=1, ge=1, le=1000, description="Rows to draw for each positive of each split.")
    by: Literal["uniform", "popularity"] = Field(
        description="uniform: each item alike; popularity: in proportion to its rows in training, without any as one."
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="Decides the draw; not the run's seed.")


class FilterRule(_Part):
    """Which users and items are kept by their numbers of rows, counted before the split."""

    by: Literal["k-core", "once"] = Field(
        default="k-core",
        description="k-core: users and items with fewer rows are removed until none is left; once: counted once before "
        "anything is removed, so that some left may have fewer.",
    )
    user_rows: int = Field(default=0, ge=0, description="Rows that a user must have at least; 0 = any.")
    item_rows: int = Field(default=0, ge=0, description="Rows that an item must have at least; 0 = any.")

    @model_validator(mode="after")
    def _does_something(self) -> FilterRule:
        if max(self.user_rows, self.item_rows) < 2:
            raise ValueError(
                "removes nothing: set user_rows or item_rows to 2 or more, e.g. {user_rows: 5, item_rows: 5}"
            )
        return self


class _LabelRule(_Part):
    """What counts as a positive."""

    positive_above: float | None = Field(
        default=None, description="With `from: rating`: a rating greater than this is label 1, any other label 0."
    )
    lowest: float | None = Field(default=None, description="Ratings below this are bad rows; null = no bound.")
    highest: float | None = Field(default=None, description="Ratings above this are bad rows; null = no bound.")
    not_rated: tuple[float, ...] | None = Field(
        default=None,
        description="Ratings that mean 'not rated', e.g. [0]: their rows are left out, with a note; null = none.",
    )
    negatives: NegativesRule | None = added_field(
        None, description="With `from: positives`: how rows with label 0 are drawn; null = every other label rule."
    )

    @property
    def source(self) -> str:
        """Where the label comes from: the column `rating` or `label`, or `positives`."""
        return str(getattr(self, "from"))

    @property
    def column(self) -> tuple[str, ...]:
        """The canonical column that the label comes from; none where every row is a positive."""
        return () if self.source == "positives" else (self.source,)

    @field_validator("not_rated", mode="before")
    @classmethod
    def _is_a_list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("from", mode="before", check_fields=False)
    @classmethod
    def _is_explicit(cls, value: Any) -> Any:
        if value == "implicit":
            raise ValueError(IMPLICIT)
        return value

    @model_validator(mode="after")
    def _threshold_fits(self) -> _LabelRule:
        reads_rating = self.source == "rating"
        if reads_rating and self.positive_above is None:
            raise ValueError("{from: rating} needs positive_above, e.g. positive_above: 3 for one to five stars")
        of_ratings = (self.positive_above, self.lowest, self.highest, self.not_rated)
        if not reads_rating and any(each is not None for each in of_ratings):
            takes = "takes every row as a positive" if self.source == "positives" else "takes a ready label as it is"
            raise ValueError(f"{{from: {self.source}}} {takes}: remove positive_above, lowest, highest and not_rated")
        if self.source == "positives" and self.negatives is None:
            raise ValueError(f"{{from: positives}} needs a rule for the rows with label 0: {HOW_POSITIVES}")
        if self.source != "positives" and self.negatives is not None:
            raise ValueError(f"{{from: {self.source}}} has its own rows with label 0: remove `negatives`")
        if self.lowest is not None and self.highest is not None and self.lowest >= self.highest:
            raise ValueError(f"lowest {self.lowest} must be smaller than highest {self.highest}")
        return self


if TYPE_CHECKING:
    LabelRule = _LabelRule
else:
    # `from` is a word of Python, so this field cannot be written in a class body.
    LabelRule = create_model(
        "LabelRule",
        __base__=_LabelRule,
        __doc__=_LabelRule.__doc__,
        **{
            "from": (
                Literal["rating", "label", "positives"],
                Field(
                    description="Canonical column: `rating` with `positive_above`, or `label` that holds 0 and 1; "
                    "positives: every row is one, and `negatives` says which items are drawn as label 0."
                ),
            )
        },
    )

_TAKES = {
    "quantiles": ("valid", "test"),
    "dates": ("valid_from", "test_from"),
    LAST_OUT: ("last_rows", "last_of"),
    "column": (),
    "random": ("valid", "test", "seed"),
    "files": ("valid", "seed"),
}
NEEDS_TIMES = ("quantiles", "dates", LAST_OUT)


class SplitRule(LastOutFields, _Part):
    """Which rows are for training, validation and test."""

    by: Literal["quantiles", "dates", "leave-last-out", "column", "random", "files"] = Field(
        description="quantiles: the newest rows of all, at two moments; dates: at two UTC midnights; leave-last-out: "
        "each user's last `last_rows` (leaks); column: `columns.split`; random: whatever the time (leaks); "
        "files: `interactions` is training, `valid_interactions` and `test_interactions` are the other splits."
    )
    valid: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="quantiles, random: share of rows in validation; files without `valid_interactions`: share of the "
        "training rows, the newest ones, or drawn where there are no times; 0.1 where not given.",
    )
    test: float | None = Field(
        default=None, gt=0, lt=1, description="quantiles, random: share of rows in test; 0.1 where not given."
    )
    valid_from: date | None = Field(default=None, description="dates: first day of validation, UTC, YYYY-MM-DD.")
    test_from: date | None = Field(default=None, description="dates: first day of test, UTC, YYYY-MM-DD.")
    seed: int | None = Field(default=None, ge=0, description="random, files: decides the draw; 0 where not given.")

    @model_validator(mode="after")
    def _fields_fit(self) -> SplitRule:
        takes = _TAKES[self.by]
        other = [name for name in type(self).model_fields if name not in ("by", *takes)]
        if given := [name for name in other if getattr(self, name) is not None]:
            raise ValueError(f"{{by: {self.by}}} takes {', '.join(takes) or 'nothing else'}; remove {', '.join(given)}")
        if self.by == "dates":
            self._check_dates()
        # Filled in here so that a resolved spec shows the numbers that are used.
        for name, value in (("valid", DEFAULT_SHARE), ("test", DEFAULT_SHARE), ("seed", 0)):
            if name in takes and getattr(self, name) is None and self.by != "files":
                object.__setattr__(self, name, value)
        if self.valid is not None and self.test is not None and self.valid + self.test >= 1:
            raise ValueError(f"valid {self.valid} and test {self.test} leave no rows for training")
        return self

    def _check_dates(self) -> None:
        if self.valid_from is None or self.test_from is None:
            raise ValueError("{by: dates} needs valid_from and test_from, e.g. valid_from: 2024-01-01")
        if self.valid_from >= self.test_from:
            raise ValueError(f"valid_from {self.valid_from} must be before test_from {self.test_from}")
