"""Base class of encoders: the contract's members with defaults, so that a plugin writes only what is its own."""

from __future__ import annotations

import errno
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from collm.contracts.encoder import (
    EncodedPair,
    EncoderBatch,
    EncoderConfig,
    EncoderData,
    EncoderFacts,
    FitConfig,
    FitMode,
    FitPhase,
    IdTable,
    Side,
)
from collm.contracts.prompt import TITLE_SLOTS
from collm.errors import CollmError, PluginError, out_of_memory

SLOT_KINDS = ("user", "item", *TITLE_SLOTS, "context")
# Members that the contract did not have from the beginning.
YOUNGER_MEMBERS = (
    *("context_dim", "context_tokens", "reads_time", "half_lives", "factors", "score_all"),
    *("id_tables", "settled"),
)


class EncoderModule(nn.Module):
    """Defaults for `collm.contracts.encoder.Encoder`: a gradient-fitted model that gives scores only.

    A subclass writes `score`, sets the class attributes that differ, and writes `encode` where it gives vectors or
    `fit_direct` where its mode is `direct`. Sizes known only when built are set on the instance.
    """

    gives: frozenset[str] = frozenset({"scores"})
    fit_mode: FitMode = "gradient"
    user_depends_on_item: bool = False
    user_dim: int | None = None
    item_dim: int | None = None
    context_dim: int | None = None
    history_items: int = 0
    reads_earlier_labels: bool = False
    half_lives: tuple[float, ...] = ()
    reads_time: bool = False
    tokens_per_slot: tuple[int, int] = (1, 1)
    context_tokens: int = 1
    id_tables: Mapping[str, tuple[IdTable, ...]] | None = None
    origin: str = ""

    def bind_backbone(self, hidden_size: int, token_rms: float) -> None:
        """Is called once with the sizes of the language model that the vectors enter, before any tuned state is loaded.

        Encoders that give `llm-tokens` size their tables here; others need nothing.

        Args:
            hidden_size: Width of the token embeddings.
            token_rms: Root mean square of the token embeddings' entries.
        """

    def score(self, batch: EncoderBatch) -> torch.Tensor:
        """Scores rows.

        Args:
            batch: Rows; labels are not read.

        Returns:
            Logits, float32 [batch].

        Raises:
            PluginError: If the subclass gives scores and does not write this method.
        """
        del batch
        raise PluginError(self._missing("score(batch)", "scores"))

    def loss(self, batch: EncoderBatch) -> torch.Tensor:
        """Mean binary cross-entropy of `score` against the labels: -[y log s(z) + (1 - y) log(1 - s(z))].

        Args:
            batch: Rows with labels, float32 [batch] of 0 and 1.

        Returns:
            float32 scalar.

        Raises:
            PluginError: If the batch has no labels, or `score` does not return one logit per row.
        """
        if batch.label is None:
            raise PluginError(f"{type(self).__name__}.loss: the batch has no labels; give EncoderBatch(label=...)")
        logits = self.score(batch)
        if logits.shape != batch.label.shape:
            got, asked = tuple(logits.shape), tuple(batch.label.shape)
            raise PluginError(f"{type(self).__name__}.score returned shape {got}; asked is {asked}, one logit per row")
        return functional.binary_cross_entropy_with_logits(logits, batch.label)

    def parameter_groups(self, fit: FitConfig) -> list[dict[str, Any]]:
        """Puts all trainable parameters into one group with the fit's step size and coupled L2.

        Args:
            fit: Training settings.

        Returns:
            One torch optimiser group; empty list where nothing trains.
        """
        params = [parameter for parameter in self.parameters() if parameter.requires_grad]
        if not params:
            return []
        return [{"params": params, "lr": fit.learning_rate, "weight_decay": fit.weight_decay}]

    def fit_phases(self, config: EncoderConfig) -> Sequence[FitPhase]:
        """Fits in one phase: `loss` with the settings of `config.fit`.

        Args:
            config: The encoder's settings.

        Returns:
            The phases, in order; the last one selects by validation AUC.

        Raises:
            PluginError: If the settings have no `fit`.
        """
        fit = getattr(config, "fit", None)
        if not isinstance(fit, FitConfig):
            raise PluginError(f"{type(self).__name__} is fitted by gradient, but {type(config).__name__} has no `fit`")
        return [FitPhase("fit", self, fit)]

    def fit_direct(self, data: EncoderData, batches: Iterator[EncoderBatch]) -> None:
        """Fits an encoder of mode `direct`.

        Args:
            data: What the encoder may see.
            batches: The labelled training rows once, in source order.

        Raises:
            PluginError: If the mode is not `direct`, or the subclass does not write this method.
        """
        del data, batches
        cause = "does not write it" if self.fit_mode == "direct" else f"has fit_mode '{self.fit_mode}'"
        raise PluginError(f"{type(self).__name__}.fit_direct was called, but the encoder {cause}")

    def encode(self, batch: EncoderBatch) -> EncodedPair:
        """Encodes rows.

        Args:
            batch: Rows; labels are not read.

        Returns:
            The vectors that enter the prompt, float [batch, d_u] and [batch, d_i].

        Raises:
            PluginError: If the encoder gives scores only, or the subclass does not write this method.
        """
        del batch
        if self.gives & {"vectors", "llm-tokens"}:
            raise PluginError(self._missing("encode(batch)", "vectors"))
        raise PluginError(
            f"{type(self).__name__} gives scores only and cannot enter a prompt; choose an encoder that gives vectors"
        )

    def factors(self, batch: EncoderBatch) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Gives what ranks a whole catalogue at once, where the score is a product.

        Args:
            batch: Users with their histories, counts and times; items are 0.

        Returns:
            float32 [batch, d] and [n_items + 1, d], of which the dot products are the scores (up to a number per user);
            None where the score is not a product, as here.
        """
        del batch
        return None

    def score_all(self, batch: EncoderBatch) -> torch.Tensor | None:
        """Scores the whole catalogue for every user, where that is cheaper than pair by pair.

        Args:
            batch: As in `factors`.

        Returns:
            float32 [batch, n_items + 1]; None where it is not cheaper, as here.
        """
        del batch
        return None

    def settled(self) -> Mapping[str, Any]:
        """Returns settings that the training rows decided where the config left them open; none here."""
        return {}

    def slot_words(self, side: Side, ids: Sequence[int]) -> Sequence[str]:
        """Gives the words that fill the slots of users or items.

        Args:
            side: `user` or `item`.
            ids: Dense ids, 0 = unknown.

        Returns:
            One text per id.

        Raises:
            PluginError: If the encoder gives no words, or the subclass does not write this method.
        """
        del side, ids
        raise PluginError(self._missing("slot_words(side, ids)", "words"))

    def describe(self) -> EncoderFacts:
        """Says what results must state of the encoder beside its numbers, after its fit.

        Returns:
            Nothing, unless the subclass writes this method.
        """
        return EncoderFacts()

    def _missing(self, method: str, what: str) -> str:
        return (
            f"{type(self).__name__} declares gives={sorted(self.gives)} but does not write {method}, which gives {what}"
        )


def vectors_per_slot(encoder: EncoderModule) -> dict[str, int]:
    """Returns side (`user`, `item`, `context`) -> vectors or token embeddings that the encoder gives for its slot."""
    user, item = encoder.tokens_per_slot
    return {"user": user, "item": item, "context": encoder.context_tokens}


def completed(encoder: nn.Module) -> EncoderModule:
    """Gives an encoder of a class of its own the members that are younger than it is, with their defaults."""
    for name in YOUNGER_MEMBERS:
        if not hasattr(encoder, name):
            default = getattr(EncoderModule, name)
            setattr(encoder, name, types.MethodType(default, encoder) if callable(default) else default)
    return encoder  # type: ignore[return-value]


@dataclass(frozen=True)
class EncoderTraits:
    """The members of `collm.contracts.encoder.Encoder` that batches and prompts depend on, without weights.

    Attributes:
        tokens: Kind of slot -> token embeddings that fill one, after the mapping.
        words: `slot_words` of a fitted encoder that gives words; None for one that gives vectors or tokens.
    """

    user_depends_on_item: bool
    history_items: int
    reads_earlier_labels: bool
    reads_time: bool
    tokens: Mapping[str, int]
    words: Callable[[Side, Sequence[int]], Sequence[str]] | None = None
    half_lives: tuple[float, ...] = ()

    @classmethod
    def of(cls, encoder: EncoderModule, *, mapping_tokens: int = 1) -> EncoderTraits:
        """Returns the traits of a built encoder.

        Args:
            encoder: The encoder; fitted, if it gives words.
            mapping_tokens: Token embeddings that the mapping makes of one vector.
        """
        factor, counts = mapping_tokens if "vectors" in encoder.gives else 1, vectors_per_slot(encoder)
        return cls(
            encoder.user_depends_on_item,
            encoder.history_items,
            encoder.reads_earlier_labels,
            encoder.reads_time,
            tokens={kind: factor * counts["item" if kind in TITLE_SLOTS else kind] for kind in SLOT_KINDS},
            words=encoder.slot_words if "words" in encoder.gives else None,
            half_lives=encoder.half_lives,
        )


@contextmanager
def naming_encoder(encoder: object, method: str, *, origin: str = "") -> Iterator[None]:
    """Names the encoder and its method in whatever its code raises inside.

    Errors of `collm` and lack of memory or disk space are raised unchanged.

    Args:
        encoder: The encoder; its `origin` names kind, component and module, its type where it has none.
        method: What is called, e.g. `score`.
        origin: Used where the encoder does not exist yet.

    Raises:
        PluginError: With the original error as its cause.
    """
    try:
        yield
    except CollmError:
        raise
    # The plugin boundary: whatever a stranger's code raises is named, and stays attached as the cause.
    except Exception as error:
        if out_of_memory(error) or getattr(error, "errno", None) == errno.ENOSPC:
            raise
        who = origin or getattr(encoder, "origin", "") or f"encoder {type(encoder).__name__}"
        said = " ".join(str(error).split())
        raise PluginError(
            f"{who}: `{method}` raised {type(error).__name__}: {said}; `collm --debug ...` shows where"
        ) from error
