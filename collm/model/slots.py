"""The vectors that fill the slots of prompts: user, target item, and items of the history."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from collm.contracts.encoder import EncoderBatch
from collm.errors import RunError
from collm.model.encoder import EncoderModule, naming_encoder
from collm.model.mapping import Projector
from collm.model.prefix.batch import PromptBatch


@dataclass(frozen=True)
class SlotVectors:
    """Token embeddings for the slots of a batch; None where there are no slots.

    Attributes:
        user: [batch * k, hidden].
        item: [batch * k, hidden].
        history: [batch * length * k, hidden].
    """

    user: torch.Tensor | None = None
    item: torch.Tensor | None = None
    history: torch.Tensor | None = None


def slot_vectors(batch: PromptBatch, encoder: EncoderModule | None, projector: Projector | None) -> SlotVectors:
    """Returns the token embeddings for all slots of a batch.

    Args:
        batch: Prompts with the encoder's input for their rows.
        encoder: Gives the vectors.
        projector: Maps them; None where the encoder gives token embeddings itself.

    Raises:
        RunError: If there are slots and nothing fills them, or a slot has another number of tokens than its vectors.
    """
    if not (batch.user.at.numel() or batch.item.at.numel() or batch.history.at.numel()):
        return SlotVectors()
    if encoder is None or batch.encoder is None:
        raise RunError("the prompts have user or item slots, but there is no encoder to fill them")
    moves = torch.is_grad_enabled() and any(p.requires_grad for p in encoder.parameters())
    with torch.set_grad_enabled(moves), naming_encoder(encoder, "encode"):
        pair = encoder.encode(batch.encoder)
    user, item = (pair.user, pair.item) if projector is None else projector(pair.user, pair.item)
    for slots, vectors in ((batch.user, user), (batch.item, item)):
        if slots.at.numel() not in (0, vectors.shape[0] * vectors.shape[1]):
            raise RunError(
                f"the prompt has {slots.at.numel() // len(batch)} tokens per slot, the vectors {vectors.shape[1]}"
            )
    history = None
    if batch.history_items is not None:
        history = _item_vectors(batch.history_items, encoder, projector, moves=moves)
    return SlotVectors(user.flatten(0, 1), item.flatten(0, 1), history)


def _item_vectors(
    items: torch.Tensor, encoder: EncoderModule, projector: Projector | None, *, moves: bool
) -> torch.Tensor:
    """Returns the vectors of items without user and history, each distinct one computed once.

    Args:
        items: int64 [batch, length], 0 = none.
        encoder: Gives the vectors.
        projector: Maps them.
        moves: Whether the encoder trains.

    Returns:
        float [batch * length * k, hidden].
    """
    ids, places = torch.unique(items, return_inverse=True)
    n = len(ids)
    batch = EncoderBatch(
        user=torch.zeros_like(ids),
        item=ids,
        history=ids.new_zeros((n, encoder.history_items)) if encoder.history_items else None,
        earlier=ids.new_zeros((n, 4), dtype=torch.float32) if encoder.reads_earlier_labels else None,
    )
    with torch.set_grad_enabled(moves), naming_encoder(encoder, "encode"):
        vectors = encoder.encode(batch).item
    mapped = vectors if projector is None else projector.items(vectors)
    return mapped[places.reshape(-1)].flatten(0, 1)
