"""What a spec is once it is resolved: the core's own sections, and the whole with every value filled in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
    model_validator,
)

from collm.component import ComponentConfig, Kind, added_field
from collm.contracts.backbone import BackboneConfig
from collm.contracts.data import DatasetConfig, SelectedRows, Visibility
from collm.contracts.encoder import EncoderConfig
from collm.contracts.metric import MetricConfig
from collm.contracts.prompt import Include, PromptConfig
from collm.contracts.tuning import TuningConfig
from collm.spec.fingerprint import dump_config, fingerprint
from collm.spec.node import Place
from collm.spec.prequential import Policy, WindowLength
from collm.spec.ranking import RankingConfig

Profile = Literal["paper", "reference", "recommended"]
EvaluatedSplit = Literal["valid", "test"]
Slice = Literal["all", "warm", "cold"]

# Disliked items per prompt where the spec says nothing.
DISLIKED = 10
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"


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
    ages: bool = added_field(
        False, description="Write behind each title of a prompt's lists how long before the row it was rated."
    )

    @field_validator("max_disliked")
    @classmethod
    def _is_read(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("include") == "liked":
            raise ValueError("prompts list no disliked items with include: liked; set include: both, or null here")
        return value

    @property
    def n_disliked(self) -> int:
        """Disliked items per prompt at most."""
        return 0 if self.include == "liked" else self.max_disliked or DISLIKED


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
        away = ("ranking", "protocol", "window", "policy", "update_epochs")
        return self.model_copy(update={name: type(self).model_fields[name].default for name in away})


class Head(Section):
    """The fields of a spec that are not sections."""

    name: str = Field(
        pattern=NAME_PATTERN,
        max_length=120,
        description="Name of the run and of its folder: letters, digits, '.', '_', '+', '-'.",
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="Seed of everything random.")
    profile: Profile = Field(
        default="recommended", description="Named set of defaults: the paper's, its code's, or what works best."
    )


COMPONENT_SECTIONS: Mapping[str, str] = {
    "dataset": "Where interactions come from.",
    "encoder": "The classic recommender; without a backbone it is the recommender, without it the prompt is text only.",
    "backbone": "The language model; without it the encoder alone is evaluated.",
    "prompt": "The prompt template.",
    "tuning": "Which parts train in which order.",
}
# The section that holds several encoders by name, in place of `encoder`.
ENCODERS = "encoders"
ENCODERS_DESCRIPTION = "Several encoders by name, in place of `encoder`; the prompt's slots name them: `{user.NAME}`."
CORE_SECTIONS: Mapping[str, type[Section]] = {
    "history": HistoryConfig,
    "slices": SlicesConfig,
    "answer": AnswerConfig,
    "mapping": MappingConfig,
    "select": SelectConfig,
    "evaluate": EvaluateConfig,
}


@dataclass(frozen=True)
class ResolvedSpec:
    """A spec with every value filled in and checked.

    Attributes:
        name: Name of the run.
        seed: Seed of everything random.
        profile: The profile that filled what the user left open.
        dataset: Settings of the dataset component, in that component's own class; likewise the four below.
        encoder: None = text only.
        backbone: None = the encoder alone.
        prompt: None without a backbone.
        tuning: None without a backbone.
        history: Which earlier positives a row may see.
        slices: What is warm and cold.
        answer: How a score is read.
        mapping: How vectors become token embeddings.
        select: Validation rows that select.
        evaluate: What is measured.
        encoders: Name -> settings of an encoder, where there are several; `encoder` is None then.
        sources: Dotted path of every value -> `user`, `--set`, `profile NAME` or `default`.
        places: Dotted path of every value that was written somewhere -> where; the document itself under "".
    """

    name: str
    seed: int
    profile: Profile
    dataset: DatasetConfig
    encoder: EncoderConfig | None
    backbone: BackboneConfig | None
    prompt: PromptConfig | None
    tuning: TuningConfig | None
    history: HistoryConfig
    slices: SlicesConfig
    answer: AnswerConfig
    mapping: MappingConfig
    select: SelectConfig
    evaluate: EvaluateConfig
    encoders: Mapping[str, EncoderConfig] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    places: Mapping[str, Place] = field(default_factory=dict, compare=False, repr=False)

    @property
    def all_encoders(self) -> dict[str, EncoderConfig]:
        """Name -> settings of every encoder, sorted: the empty name for that of `encoder`, else those of `encoders`."""
        return dict(sorted(self.encoders.items())) if self.encoder is None else {"": self.encoder}

    def components(self) -> Iterator[tuple[str, Kind, ComponentConfig]]:
        """Yields dotted path, kind and settings of every component that the spec names."""
        for section in COMPONENT_SECTIONS:
            if section == "encoder":
                for name, each in self.all_encoders.items():
                    yield encoder_path(name), "encoder", each
            elif (config := getattr(self, section)) is not None:
                yield section, cast(Kind, section), config

    def plain(self, *, locations: bool = True) -> dict[str, Any]:
        """Returns the whole spec as plain data that can be read again as a spec; absent sections are left out.

        Args:
            locations: Whether fields that say only where something lies are kept.
        """
        return self._dump(locations=locations)

    def place(self, path: str) -> Place:
        """Returns where a value was written, or the nearest part of the spec that holds it.

        Args:
            path: Dotted path, with numbers for list items.
        """
        while path and path not in self.places:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.places.get(path, Place(self.name))

    @property
    def spec_hash(self) -> str:
        """10 hex characters over everything but the name and locations."""
        payload = self._dump(locations=False)
        del payload["name"]
        return fingerprint(payload)[:10]

    def _dump(self, *, locations: bool) -> dict[str, Any]:
        head: dict[str, Any] = {"name": self.name, "seed": self.seed, "profile": self.profile}
        sections = {key: getattr(self, key) for key in (*COMPONENT_SECTIONS, *CORE_SECTIONS)}
        content = {key: dump_config(each, locations=locations) for key, each in sections.items() if each is not None}
        if self.encoders:
            content[ENCODERS] = {name: dump_config(each, locations=locations) for name, each in self.encoders.items()}
        return head | content


def encoder_path(name: str) -> str:
    """Returns the dotted path of an encoder's settings in a spec; the empty name is that of `encoder`."""
    return f"{ENCODERS}.{name}" if name else "encoder"
