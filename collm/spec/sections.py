"""The sections of a spec that are the core's own: histories, slices, answer, mapping, selection, evaluation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationInfo, field_validator, model_validator

from collm.component import added_field
from collm.contracts.data import SelectedRows, Visibility
from collm.contracts.metric import MetricConfig
from collm.contracts.prompt import Include
from collm.spec.fingerprint import dump_config
from collm.spec.ranking import RankingConfig

EvaluatedSplit = Literal["valid", "test"]
Slice = Literal["all", "warm", "cold"]

# Disliked items per prompt where the spec says nothing.
DISLIKED = 10
Policy = Literal["frozen", "encoder", "encoder+mapping", "all"]
_UNITS = {"row": "rows", "day": "d", "week": "w", "month": "mo", "year": "y"}
_FORM = re.compile(r"\s*([1-9]\d*)\s*(row|day|week|month|year)s?\s*")


@dataclass(frozen=True)
class WindowLength:
    """How long a window is.

    Attributes:
        n: How many units, 1 or more.
        unit: `rows`, or polars' name of a unit of the calendar: d, w, mo, y.
    """

    n: int
    unit: str

    @classmethod
    def parse(cls, text: str) -> WindowLength:
        """Reads e.g. `500 rows`, `1 month`, `2 weeks`.

        Raises:
            ValueError: If it is of another form.
        """
        if (found := _FORM.fullmatch(text)) is None:
            raise ValueError(
                f"'{text}' is not a length of a window; give e.g. 500 rows, 7 days, 2 weeks, 1 month, 1 year"
            )
        return cls(int(found.group(1)), _UNITS[found.group(2)])


class Section(BaseModel):
    """Base of the core's own sections."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class HistoryConfig(Section):
    """Which earlier rows of a user a row may see, and what prompts list of them."""

    visibility: Visibility = Field(
        default="strictly-earlier",
        description="`all`: every earlier row in the published order, evaluation period and same second included; "
        "`strictly-earlier`: rows with a smaller time; `as-of-split`: training rows only (facts 8, 11).",
    )
    max_items: int = Field(default=10, ge=0, description="Items per history at most (fact 10).")
    include: Include = added_field(
        "liked",
        description="What prompts list of the past: `liked` items, or `both` liked and disliked ones (label 0), where "
        "the prompt has a place for them (docs/prompts.md). Encoders read the liked ones alone.",
    )
    max_disliked: int | None = added_field(
        None, ge=1, description="Disliked items per prompt at most, for `include: both`; null = 10."
    )
    max_rated: int | None = added_field(
        None,
        ge=1,
        description="Items of both lists together at most, for `include: both`: the last rated ones, so that the lists "
        "say how many of them were liked (TALLRec: 10); the lists then have no lengths of their own. null = each list "
        "by itself.",
    )
    ages: bool = added_field(
        False, description="Write behind each title of a prompt's lists how long before the row it was rated."
    )

    @field_validator("max_disliked", "max_rated")
    @classmethod
    def _is_read(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("include") == "liked":
            raise ValueError("prompts list no disliked items with include: liked; set include: both, or null here")
        return value

    @property
    def n_liked(self) -> int:
        """Liked items per prompt at most."""
        return self.max_rated or self.max_items

    @property
    def n_disliked(self) -> int:
        """Disliked items per prompt at most."""
        return 0 if self.include == "liked" else self.max_rated or self.max_disliked or DISLIKED

    def plain(self, *, locations: bool = True) -> dict[str, Any]:
        """Returns the settings as plain data that can be read again.

        A default length below `max_rated` is left out: in a file it would be one that someone set, which is refused.

        Args:
            locations: Whether all fields are kept, those at their default included.
        """
        plain = dump_config(self, locations=locations)
        if self.max_rated is not None and self.max_rated > self.max_items:
            del plain["max_items"]
        return plain

    def payload(self) -> dict[str, Any]:
        """Returns what decides prompts, for fingerprints."""
        payload = dump_config(self, locations=False)
        lengths = (self.max_items, self.max_disliked or DISLIKED)
        # Lists were cut to these lengths before.
        is_longer = self.max_rated is not None and self.max_rated > min(lengths)
        return payload | ({"lists": "last rated"} if is_longer else {})


class SlicesConfig(Section):
    """What counts as warm and cold; counts are those of the full training split."""

    warm: Literal["at-least-3", "more-than-3", "seen"] = Field(
        default="at-least-3", description="Training rows that both user and item of a warm row have (fact 28)."
    )
    cold: Literal["rest", "unseen"] = Field(
        default="rest", description="`rest`: every row that is not warm; `unseen`: user or item without training rows."
    )


class AnswerConfig(Section):
    """How one number is read from the language model."""

    readout: Literal["yes_logit", "yes_minus_no"] = Field(
        default="yes_minus_no",
        description="`yes_logit`: logit of the positive word (facts 1, 3); `yes_minus_no`: minus that of the other.",
    )


class MappingConfig(Section):
    """The mapping from encoder vectors to token embeddings: Linear - ReLU - Linear (the paper's equation 3)."""

    init: Literal["token-norm", "torch-default"] = Field(
        default="token-norm",
        description="Start of the weights. `torch-default`: torch's own, as in the published code; `token-norm`: the "
        "last layer scaled so that its outputs begin with the root mean square of the model's token embeddings.",
    )
    standardise: bool = Field(
        default=True,
        description="Centre each side's vectors over training rows and divide them by one number per side, their root "
        "mean square deviation. The paper and its code take them as they are.",
    )
    width_factor: int = Field(default=10, ge=1, description="Width of the hidden layer over the vector's length.")
    tokens: int = Field(
        default=1, ge=1, le=64, description="Token embeddings per slot that one vector is mapped to (`proj_token_num`)."
    )
    vectors: Literal["shared", "own"] = added_field(
        "shared",
        description="Where an encoder gives several vectors per slot: one mapping for all of them, or one for each.",
    )


class SelectConfig(Section):
    """Which validation rows choose the best weights of the language-model steps."""

    rows: SelectedRows = Field(
        default="full",
        description="All validation rows; a half or a quarter of them, drawn with the run's seed; or the published "
        "half (dataset `collm-released` alone has it). The encoder always selects on all of them.",
    )


# Settings of prequential evaluation: no metric of validation rows depends on them.
OF_PREQUENTIAL = ("protocol", "window", "policy", "update_epochs")


class EvaluateConfig(Section):
    """What is measured."""

    splits: tuple[EvaluatedSplit, ...] = Field(
        default=("valid", "test"), min_length=1, description="Splits that are scored."
    )
    slices: tuple[Slice, ...] = Field(
        default=("all", "warm", "cold"), min_length=1, description="Parts of each split that are measured."
    )
    metrics: tuple[str | SerializeAsAny[MetricConfig], ...] = Field(
        default=("auc", "uauc", "ndcg"),
        min_length=1,
        description="Metrics: names, `name@k`, or mappings of `name` and the metric's fields, e.g. "
        "[auc, ndcg@10, {name: ndcg, k: 5}].",
    )
    resamples: int = Field(
        default=1000, ge=0, description="User-clustered bootstrap resamples behind each 95% interval; 0 = no interval."
    )
    ranking: RankingConfig | None = added_field(
        None, description="Candidate lists that are ranked beside the rows; null = none (docs/ranking.md)."
    )
    protocol: Literal["split", "prequential"] = added_field(
        "split",
        description="`split`: the model that training made scores every row; `prequential`: test is scored window by "
        "window in order of time, and before each window `policy` updates the model (docs/online.md).",
    )
    window: str | None = added_field(
        None, description="Length of a window: `500 rows`, or days, weeks, months or years of the calendar (`1 month`)."
    )
    policy: Policy = added_field(
        "frozen",
        description="What is updated before each window, from its last weights: nothing; the encoder, on all rows "
        "seen; and the mapping, on the rows seen since the last update; or LoRA as well.",
    )
    update_epochs: int = added_field(1, ge=1, description="Passes over these rows in each update.")

    @field_validator("window")
    @classmethod
    def _is_a_length(cls, window: str | None) -> str | None:
        if window is not None:
            WindowLength.parse(window)
        return window

    @model_validator(mode="after")
    def _protocol_has_its_settings(self) -> EvaluateConfig:
        if self.protocol == "prequential":
            if self.window is None:
                raise ValueError("protocol prequential needs `window`, e.g. window: 1 month")
            if "test" not in self.splits:
                raise ValueError("protocol prequential scores the test split: name it in `splits`")
            if self.ranking is not None:
                raise ValueError("protocol prequential scores rows; `ranking` goes with protocol split")
        elif self.window is not None or self.policy != "frozen" or self.update_epochs != 1:
            raise ValueError("`window`, `policy` and `update_epochs` go with protocol: prequential")
        return self

    def measuring(self) -> EvaluateConfig:
        """Returns the settings with what no metric of rows depends on as by default."""
        away = ("ranking", *OF_PREQUENTIAL)
        return self.model_copy(update={name: type(self).model_fields[name].default for name in away})
