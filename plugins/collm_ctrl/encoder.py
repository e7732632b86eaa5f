"""CTRL as an encoder: another encoder with one more phase before its own fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from collm.component import BuildContext
from collm.contracts.backbone import Backbone
from collm.contracts.encoder import (
    EncodedPair,
    EncoderBatch,
    EncoderConfig,
    EncoderData,
    EncoderFacts,
    FitConfig,
    FitPhase,
)
from collm.errors import PluginError
from collm.model.encoder import EncoderModule
from collm_ctrl.alignment import Alignment
from collm_ctrl.config import CtrlConfig
from collm_ctrl.features import TextReader, text_vectors
from collm_ctrl.texts import item_texts, user_texts

MakeAlignment = Callable[[EncoderModule, torch.device], tuple[Alignment, dict[str, Any]]]


class Ctrl(EncoderModule):
    """Scores, vectors and parameters are the inner encoder's; only the way to them differs."""

    gives = frozenset({"scores", "vectors"})
    fit_mode = "gradient"

    def __init__(self, encoder: EncoderModule, make_alignment: MakeAlignment) -> None:
        """Takes the inner encoder, and what makes stage one when the fit begins."""
        super().__init__()
        self.encoder = encoder
        self.user_depends_on_item = encoder.user_depends_on_item
        self.user_dim, self.item_dim = encoder.user_dim, encoder.item_dim
        self.history_items, self.reads_earlier_labels = encoder.history_items, encoder.reads_earlier_labels
        self.tokens_per_slot = encoder.tokens_per_slot
        self.context_dim, self.context_tokens = encoder.context_dim, encoder.context_tokens
        self.reads_time = encoder.reads_time
        self._make_alignment = make_alignment

    def score(self, batch: EncoderBatch) -> torch.Tensor:
        """Returns the inner encoder's logits, float32 [batch]."""
        return self.encoder.score(batch)

    def loss(self, batch: EncoderBatch) -> torch.Tensor:
        """Returns the loss of stage two, the inner encoder's own, a scalar."""
        return self.encoder.loss(batch)

    def encode(self, batch: EncoderBatch) -> EncodedPair:
        """Returns the inner encoder's vectors, float32 [batch, user_dim] and [batch, item_dim]."""
        return self.encoder.encode(batch)

    def settled(self) -> Mapping[str, Any]:
        """Returns what the training rows decided of the inner encoder's settings."""
        return {f"encoder.{name}": value for name, value in self.encoder.settled().items()}

    def describe(self) -> EncoderFacts:
        """Returns what the inner encoder says of itself."""
        return self.encoder.describe()

    def parameter_groups(self, fit: FitConfig) -> list[dict[str, Any]]:
        """Returns the inner encoder's groups."""
        return self.encoder.parameter_groups(fit)

    def fit_phases(self, config: EncoderConfig) -> Sequence[FitPhase]:
        """Returns the alignment, then the phases of the inner encoder; reads the texts where they are not cached."""
        assert isinstance(config, CtrlConfig)
        device = next(self.parameters()).device
        alignment, facts = self._make_alignment(self.encoder, device)
        align = FitPhase("align", alignment.to(device), config.align, select="loss", facts=facts)
        return [align, *self.encoder.fit_phases(config.encoder)]


def build(config: CtrlConfig, *, data: EncoderData, context: BuildContext) -> Ctrl:
    """Builds the inner encoder and wraps it (contract: `collm.contracts.encoder.Encoder`).

    Raises:
        PluginError: If the inner encoder cannot be aligned.
    """
    encoder = context.component("encoder", config.encoder.name).load_factory()(
        config.encoder, data=data, context=context
    )
    if not isinstance(encoder, EncoderModule) or encoder.fit_mode != "gradient" or encoder.user_dim is None:
        raise PluginError(
            f"{config.name}: encoder '{config.encoder.name}' cannot be aligned with text: it must be fitted by "
            "gradient and give vectors"
        )

    def make_alignment(inner: EncoderModule, device: torch.device) -> tuple[Alignment, dict[str, Any]]:
        backbone = context.component("backbone", config.text_backbone.name).load_factory()(
            config.text_backbone, context=context
        )
        return align_with_text(inner, config, data, backbone, cache_dir=context.cache_dir, device=device)

    return Ctrl(encoder, make_alignment)


def align_with_text(
    encoder: EncoderModule,
    config: CtrlConfig,
    data: EncoderData,
    backbone: Backbone,
    *,
    cache_dir: Path,
    device: torch.device,
) -> tuple[Alignment, dict[str, Any]]:
    """Makes stage one for an encoder.

    Args:
        encoder: Gives vectors.
        config: Says how texts are read and compared.
        data: Titles and training rows.
        backbone: Reads the texts.
        cache_dir: Where text vectors are kept.
        device: Where the language model runs if it has to.

    Returns:
        The model of stage one, and what results say of its text side.
    """
    users, items = user_texts(data, max_titles=config.history_titles), item_texts(data)
    # Read together: the language model is loaded once.
    both = text_vectors([*users, *items], TextReader.of(config, backbone), cache_dir=cache_dir, device=device)
    alignment = Alignment(
        encoder,
        both.part(slice(0, len(users))),
        both.part(slice(len(users), None)),
        projection_size=config.projection_size,
        n_subspaces=config.n_subspaces,
        temperature=config.temperature,
    )
    facts = {
        "text_backbone": config.text_backbone.name,
        "texts": both.n_distinct,
        "texts_reused": both.reused,
        "text_seconds": both.seconds,
    }
    return alignment, facts
