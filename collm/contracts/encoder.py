"""Contract of an encoder: the classic recommender whose vectors enter the prompt, or whose scores are a baseline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from collm.component import ComponentConfig
from collm.contracts.encoder_data import EncodedPair as EncodedPair
from collm.contracts.encoder_data import EncoderBatch as EncoderBatch
from collm.contracts.encoder_data import EncoderData as EncoderData
from collm.contracts.encoder_data import TrainRows as TrainRows
from collm.contracts.encoder_data import UnlabelledRows as UnlabelledRows

if TYPE_CHECKING:
    import torch

FitMode = Literal["gradient", "direct", "none"]
Side = Literal["user", "item"]
GIVES = frozenset({"scores", "vectors", "llm-tokens", "words"})
NEEDS = frozenset(
    {"history", "graph", "text", "counts", "earlier-labels", "attributes", "ratings", "valid-rows", "time"}
)


def of_encoder(what: str, name: str) -> str:
    """Returns `what.name` where encoders have names, e.g. `user.cf`; `what` for the encoder of `encoder`."""
    return f"{what}.{name}" if name else what


class FitConfig(BaseModel):
    """How a gradient-fitted encoder is trained; the fields share their names over all encoders."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    learning_rate: float = Field(default=1e-3, gt=0, description="Adam's step size.")
    weight_decay: float = Field(default=0.0, ge=0, description="L2 coefficient, coupled (Adam).")
    epochs: int = Field(default=500, ge=1, description="Passes over the training rows at most.")
    patience: int = Field(default=10, ge=1, description="Validations without a better AUC before stopping.")
    batch_size: int = Field(default=2048, ge=1, description="Training rows per optimiser step.")


class EncoderConfig(ComponentConfig):
    """Base of encoder settings."""


class VectorEncoderConfig(EncoderConfig):
    """Base of settings of gradient-fitted encoders that give vectors."""

    embedding_size: int = Field(default=64, ge=1, description="Length of one embedding vector.")
    fit: FitConfig = Field(default=FitConfig(), description="Training settings.")


@dataclass(frozen=True)
class EncoderFacts:
    """What results must say of an encoder beside its numbers.

    Attributes:
        facts: Plain data for `facts.encoder` of `results.json`, e.g. counts of ids that a file lacks.
        notes: Sentences for the notes of every run that uses the encoder.
        score_notes: Sentences for the notes of runs that the encoder's own scores are the result of.
        scratch_notes: Sentences for the notes of runs that start it from scratch (`t2`), where that is not a random
            start.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    score_notes: tuple[str, ...] = ()
    scratch_notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sizes:
    """Numbers of users and items.

    Attributes:
        user: Users without padding.
        item: Items without padding.
    """

    user: int
    item: int

    def rows(self, side: Literal["user", "item"]) -> int:
        """Returns the rows of a side's table, padding included."""
        return (self.user if side == "user" else self.item) + 1


@dataclass(frozen=True)
class IdTable:
    """A stretch of a tensor's first dimension with one row per dense id of one side, padding included.

    Attributes:
        side: Whose ids.
        after: Side whose rows come before it in the same tensor; None = it begins at row 0.
    """

    side: Literal["user", "item"]
    after: Literal["user", "item"] | None = None

    def first(self, sizes: Sizes) -> int:
        """Returns the row of id 0."""
        return 0 if self.after is None else sizes.rows(self.after)


class FitModel(Protocol):
    """What one phase of a fit trains: a `torch.nn.Module`, often the encoder itself."""

    def loss(self, batch: EncoderBatch) -> torch.Tensor:
        """Returns the mean loss of a labelled batch, a scalar."""
        ...

    def parameter_groups(self, fit: FitConfig) -> list[dict[str, Any]]:
        """Returns torch optimiser groups (`params`, `weight_decay`, `lr`)."""
        ...


@dataclass(frozen=True)
class FitPhase:
    """One phase of a gradient fit: its own optimiser, early stopping and best weights; the next starts from those.

    Attributes:
        name: Unique within the fit: letters, digits and hyphens.
        model: What trains, a `torch.nn.Module` with the members of `FitModel`. It may hold the encoder beside
            parts that no later phase needs (heads of another objective): those are in checkpoints, not in the result.
        fit: Training settings.
        select: Which weights are kept, and when it stops: by the `auc` of the encoder's scores on the validation rows,
            or by the model's `loss` on them, in batches of `fit.batch_size`.
        facts: What results must say of the phase beside its course.
        part: Share of the training rows, in order of time, that it trains on: from the first number to the second.
            Rows of one second are never divided.
        continues: Whether training on from given weights repeats it, then on all rows that are given; False for what is
            learnt once.
    """

    name: str
    model: FitModel
    fit: FitConfig
    select: Literal["auc", "loss"] = "auc"
    facts: Mapping[str, Any] = field(default_factory=dict)
    part: tuple[float, float] = (0.0, 1.0)
    continues: bool = True


class Encoder(Protocol):
    """What an encoder factory returns: a `torch.nn.Module` with the members below.

    Factory: `build(config, *, data: EncoderData, context: BuildContext) -> Encoder`; it must be deterministic given
    torch's global seed. `collm.model.encoder.EncoderModule` supplies defaults.

    Attributes:
        gives: Subset of `scores`, and of `vectors`, `llm-tokens` and `words` one at most: what fills the slots.
        fit_mode: `gradient` (the training loop minimises `loss`), `direct` (`fit_direct` solves it), `none`.
        user_depends_on_item: Whether the user vector depends on the target item (DIN).
        user_dim: d_u, None without vectors.
        item_dim: d_i, None without vectors.
        context_dim: d_c, None without context vectors.
        history_items: How many history items it wants per row; 0 = none.
        reads_earlier_labels: Whether its batches carry the counts of earlier labels.
        half_lives: Half-lives, in rows of the same user or item, of the recent labels that its batches carry beside.
        reads_time: Whether its batches carry the rows' times.
        tokens_per_slot: Vectors (of `vectors`) or token embeddings (of `llm-tokens`) that `encode` gives for the user
            slot and for the item slot; 0 = the encoder gives nothing for it.
        context_tokens: The same of the context slot.
        id_tables: Tensors of the state with a row per user or item, where that is not their first dimension alone or
            their own (`IdTable`); None = it is seen from builds of other sizes. Optional.
    """

    gives: frozenset[str]
    fit_mode: FitMode
    user_depends_on_item: bool
    user_dim: int | None
    item_dim: int | None
    context_dim: int | None
    history_items: int
    reads_earlier_labels: bool
    half_lives: tuple[float, ...]
    reads_time: bool
    tokens_per_slot: tuple[int, int]
    context_tokens: int
    id_tables: Mapping[str, Sequence[IdTable]] | None

    def bind_backbone(self, hidden_size: int, token_rms: float) -> None:
        """Called once before tuning with the width and the scale of the token embeddings."""
        ...

    def score(self, batch: EncoderBatch) -> torch.Tensor:
        """Returns logits, float32 [batch]. A row's logit never depends on the other rows."""
        ...

    def loss(self, batch: EncoderBatch) -> torch.Tensor:
        """Returns the scalar training loss of a labelled batch (BCE unless the config says otherwise)."""
        ...

    def parameter_groups(self, fit: FitConfig) -> list[dict[str, Any]]:
        """Returns torch optimiser groups (`params`, `weight_decay`, `lr`)."""
        ...

    def fit_phases(self, config: EncoderConfig) -> Sequence[FitPhase]:
        """Returns the phases of a `gradient` fit, in order; the last one selects by `auc`.

        Called once per fit, on the device that the fit runs on; what only the fit needs is made here.
        """
        ...

    def fit_direct(self, data: EncoderData, batches: Iterator[EncoderBatch]) -> None:
        """Fits an encoder of mode `direct`; `batches` gives the labelled training rows once, in source order."""
        ...

    def encode(self, batch: EncoderBatch) -> EncodedPair:
        """Returns the vectors that enter the prompt. Ids that were never trained give finite vectors."""
        ...

    def factors(self, batch: EncoderBatch) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Returns vectors [batch, d] and [n_items + 1, d] whose dot products are the scores, up to a number per user.

        None where the score is not such a product. Optional: it lets `evaluate.ranking` rank a catalogue in blocks of
        matrix products. Items of the batch are 0.
        """
        ...

    def score_all(self, batch: EncoderBatch) -> torch.Tensor | None:
        """Returns scores of all items, float32 [batch, n_items + 1]; None where pairs are as cheap. Optional."""
        ...

    def slot_words(self, side: Side, ids: Sequence[int]) -> Sequence[str]:
        """Returns the words that fill the slots of users or items, for an encoder that gives `words`.

        Called on the fitted encoder, with ids of 0..n_users or 0..n_items; 0 = unknown.
        """
        ...

    def settled(self) -> Mapping[str, Any]:
        """Returns settings that the training rows decided where the config left them open, e.g. `max_length`.

        An encoder that is trained on with other rows is built with them. Optional.
        """
        ...

    def describe(self) -> EncoderFacts:
        """Returns what results must say of the encoder; asked after its fit. Encoders without it say nothing."""
        ...
