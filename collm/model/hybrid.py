"""Hybrid encoding: token embeddings with some replaced by mapped vectors, by position and never by token id."""

from __future__ import annotations

import torch
from torch import nn

from collm.model.prompt_tree import Slots


def hybrid_embeddings(
    embedding: nn.Module,
    ids: torch.Tensor,
    *,
    user: tuple[Slots, torch.Tensor | None],
    item: tuple[Slots, torch.Tensor | None],
) -> torch.Tensor:
    """Embeds tokens and puts vectors into the slots.

    Args:
        embedding: The language model's token embedding.
        ids: int64 [n_tokens]; ids at slots are placeholders.
        user: Slots, and the vectors they take, [batch * k, hidden]; None leaves the placeholders.
        item: Likewise.

    Returns:
        [n_tokens, hidden] in the embedding's dtype; gradients reach the vectors.
    """
    embedded: torch.Tensor = embedding(ids)
    for slots, vectors in (user, item):
        if vectors is not None and slots.at.numel():
            chosen = vectors.index_select(0, slots.source).to(embedded.dtype)
            embedded = embedded.index_copy(0, slots.at, chosen)
    return embedded


@torch.no_grad()
def embedding_rms(embedding: nn.Module) -> float:
    """Returns the root mean square over all entries of the token embeddings, scaled where the model scales them."""
    weight = embedding.weight
    assert isinstance(weight, torch.Tensor)
    # Row-wise norms accumulate in float32 without a float32 copy of the whole table.
    squares = torch.linalg.vector_norm(weight, dim=1, dtype=torch.float32).square().mean()
    scale = getattr(embedding, "embed_scale", 1.0)
    return float((squares / weight.shape[1]).sqrt()) * float(scale)
