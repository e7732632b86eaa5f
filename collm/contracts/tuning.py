"""Contract of a tuning strategy: which parameter groups train in which order, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from collm.component import ComponentConfig, added_field, location_field
from collm.contracts.adapter_folder import ADAPTER_FILES
from collm.contracts.prompt import Variant

Group = Literal["lora", "projector", "encoder"]
Start = Literal["scratch", "previous", "pretrained"]
StepRows = Literal["all", "held-out"]
Loss = Literal["bce", "bpr", "softmax"]
USUAL_NEGATIVES = 4
ScheduleName = Literal[
    "linear-warmup-cosine",
    "reference-sawtooth",
    "constant",
    # transformers' own, by its names
    "linear",
    "cosine",
    "cosine_with_min_lr",
    "constant_with_warmup",
    "inverse_sqrt",
]

# Rate of a schedule -> the schedules that read it.
READ_BY: Mapping[str, tuple[ScheduleName, ...]] = {
    "warmup_start": ("reference-sawtooth",),
    "min_learning_rate": ("reference-sawtooth", "cosine_with_min_lr"),
}


class LoraConfig(BaseModel):
    """Low-rank adapters (the paper's section 5.1.3)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    r: int = Field(default=8, ge=1, description="Rank.")
    alpha: float = Field(default=16, gt=0, description="Scaling numerator; the update is scaled by alpha / r.")
    dropout: float = Field(default=0.05, ge=0, lt=1, description="Dropout probability on the adapter's input.")
    target_modules: Literal["all-linear"] | tuple[str, ...] | None = Field(
        default=None,
        description="Module names; all-linear = every linear layer but the output layer; null = the backbone's list.",
    )
    use_rslora: bool = added_field(False, description="Scale the update by alpha / sqrt(r) (rank-stabilised LoRA).")
    use_dora: bool = added_field(
        False, description="Train a magnitude per output beside the low-rank direction (DoRA); slower."
    )
    modules_to_save: None = added_field(
        None, description="null only: modules that train whole are not supported (see docs/tuning.md)."
    )

    @field_validator("modules_to_save", mode="before")
    @classmethod
    def _adapters_alone(cls, value: Any) -> None:
        if value:
            raise ValueError(
                "modules that train whole are not supported: all else of the language model stays as it was loaded, "
                "because the answer is read from its own output layer and the mapping starts at the size of its token "
                "embeddings; name linear layers in target_modules"
            )


class StepConfig(BaseModel):
    """Optimisation of one step."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    learning_rate: float = Field(default=1e-3, gt=0, description="Peak AdamW step size.")
    weight_decay: float = Field(default=1e-3, ge=0, description="Decoupled weight decay on matrices.")
    epochs: float = Field(default=3, gt=0, description="Epochs at most; an epoch is what `epoch_steps` says.")
    epoch_steps: int | None = Field(
        default=None,
        ge=1,
        description="Optimiser steps that are called an epoch; null = one pass over the training rows. The published "
        "code has 50 (100 on Amazon-Book), and its warm-up starts again with each.",
    )
    warmup_steps: int = Field(
        default=20, ge=0, description="Optimiser steps of linear warm-up; more than the training has are an error."
    )
    warmup_ratio: float | None = added_field(
        None, ge=0, le=1, description="Share of the optimiser steps that is warm-up, in place of `warmup_steps`."
    )
    validations_per_epoch: float = Field(default=4, gt=0, description="Validations per epoch.")
    patience: int = Field(default=5, ge=1, description="Validations without a better AUC before stopping.")
    rows: StepRows = Field(
        default="all",
        description="Training rows of the step. all: every one, the encoder's own among them (the paper); held-out: "
        "the latest `tuning.held_out_share` of them, without which the encoder is then fitted.",
    )


class AdapterStepConfig(StepConfig):
    """Optimisation of one step that trains adapters."""

    start: Path | None = location_field(
        None,
        description="Folder of a PEFT adapter (adapter_config.json, adapter_model.safetensors) that LoRA begins from; "
        "its rank, scale and modules must be those of `tuning.lora`. null = from zero.",
        files=ADAPTER_FILES,
    )


class TuningConfig(ComponentConfig):
    """Fields that every strategy has."""

    lora: LoraConfig = Field(default=LoraConfig(), description="Adapter settings.")
    loss: Loss = added_field(
        "bce",
        description="Loss of every step, on logits. bce: each training row by itself against its label (the paper). "
        "bpr, softmax: each training row with label 1 beside `negatives` items drawn for it, which are asked for the "
        "same user, time and history; rows with label 0 are then not used. bpr: softplus(negative - positive), mean "
        "over the negatives; softmax: cross-entropy of the positive among all of them.",
    )
    negatives: int | None = added_field(
        None,
        ge=1,
        description="For bpr and softmax alone: items per positive, drawn anew in every epoch, all alike and none "
        "twice, among those with a training row and without one of the user. null = "
        f"{USUAL_NEGATIVES}.",
    )
    batch_size: int = Field(
        default=32,
        ge=1,
        description="Global batch: rows per optimiser step over all devices; under bpr and softmax, positives.",
    )
    micro_batch_tokens: int = Field(
        default=4096,
        ge=64,
        description="Tokens, padding included, per forward pass. A positive and its negatives are never parted.",
    )
    prefix_cache_gb: float = Field(
        default=0,
        ge=0,
        description="Memory in 10^9 bytes, on each device, for keys and values of prompt prefixes that no training "
        "changes (steps where LoRA is frozen), kept over all epochs; what does not fit is computed again. 0 = none.",
    )
    max_rows: int | None = Field(
        default=None,
        ge=1,
        description="Training rows of the language model at most; rows of one user and history are drawn together. "
        "They count before those with label 0 are left out under bpr and softmax.",
    )
    max_valid_rows: int | None = Field(
        default=None, ge=2, description="Validation rows used for selection at most; whole users are drawn."
    )
    held_out_share: float = Field(
        default=0.2, gt=0, lt=1, description="Share of training rows, the latest, that `held-out` steps tune on."
    )
    schedule: ScheduleName = Field(
        default="linear-warmup-cosine",
        description="Learning-rate schedule (fact 39). Names with underscores, linear and cosine are transformers': "
        "their warm-up begins at 0; `constant` has none.",
    )
    warmup_start: float = Field(
        default=1e-5, gt=0, description="Learning rate that each warm-up of `reference-sawtooth` begins with."
    )
    min_learning_rate: float = Field(
        default=8e-5, gt=0, description="Learning rate that `reference-sawtooth` and `cosine_with_min_lr` end with."
    )
    frozen_lora_dropout: bool = Field(default=False, description="Keep LoRA dropout on where LoRA is frozen (fact 45).")
    clip_norm: float | None = Field(default=1.0, gt=0, description="Gradient norm limit; null = no clipping (fact 38).")
    checkpoint_seconds: float = Field(default=30, ge=0, description="Seconds between checkpoints at most.")

    @field_validator("negatives")
    @classmethod
    def _read_by_the_loss(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("loss") == "bce":
            raise ValueError(
                "tuning.loss: bce draws no negatives, it learns from the rows' own labels; remove negatives, or set "
                "loss: softmax or loss: bpr"
            )
        return value

    @field_validator("warmup_start", "min_learning_rate")
    @classmethod
    def _read_by_the_schedule(cls, value: float, info: ValidationInfo) -> float:
        assert info.field_name is not None
        schedule, reading = info.data.get("schedule"), READ_BY[info.field_name]
        if value != cls.model_fields[info.field_name].default and schedule is not None and schedule not in reading:
            raise ValueError(
                f"tuning.schedule: {schedule} does not read it; remove {info.field_name}, or set schedule: "
                + " or schedule: ".join(reading)
            )
        return value

    @property
    def n_negatives(self) -> int:
        """Items drawn for each positive; 0 under `bce`."""
        return 0 if self.loss == "bce" else self.negatives or USUAL_NEGATIVES


@dataclass(frozen=True)
class GroupPlan:
    """What happens to one parameter group in one step.

    Attributes:
        trains: Whether its parameters move.
        start: Where its values come from: a fresh initialisation, the previous step, or the fitted encoder.
    """

    trains: bool
    start: Start


@dataclass(frozen=True)
class TuneStep:
    """One tuning step.

    Attributes:
        name: Short name, e.g. `text` or `collaborative`.
        variant: Which prompt variant it trains on.
        groups: Group -> plan; a group that is absent is not part of the model in this step.
        optimiser: Group -> optimisation settings, for each group that trains. Epochs, warm-up, validations, patience
            and rows are those of the first group that trains.
    """

    name: str
    variant: Variant
    groups: Mapping[Group, GroupPlan]
    optimiser: Mapping[Group, StepConfig]

    @property
    def trained(self) -> tuple[Group, ...]:
        """The groups that train, in the order of the plan; the first decides what is common to all of them."""
        return tuple(group for group, plan in self.groups.items() if plan.trains)


class TuningStrategy(Protocol):
    """What a tuning factory returns. Factory: `build(config) -> TuningStrategy`.

    Attributes:
        needs_encoder: True: an encoder must be given; False: none may be.
        variant: Prompt variant that the finished model is evaluated with.
        n_examples: Answered questions about training rows before every prompt (in-context learning).
    """

    needs_encoder: bool
    variant: Variant
    n_examples: int = 0

    def plan(self) -> Sequence[TuneStep]:
        """Returns the steps in order; empty where nothing is tuned."""
        ...
