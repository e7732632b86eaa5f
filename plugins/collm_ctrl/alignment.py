"""Stage one of CTRL: the vectors of a row and the text of the same row are to find each other among all of a batch."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from collm.contracts.encoder import EncoderBatch, FitConfig
from collm.model.encoder import EncoderModule
from collm_ctrl.features import TextVectors


class Alignment(nn.Module):
    """An encoder, a head on each side, and the contrastive loss between them (Li et al. 2023, stage one).

    The row's collaborative side is [user vector, item vector]; its text side is [user text, item text], each text
    vector standardised over its table, since a language model's raw states differ in a few dimensions only. The tables
    are constants: they are in no state, and the heads go when the stage ends.
    """

    def __init__(
        self,
        encoder: EncoderModule,
        users: TextVectors,
        items: TextVectors,
        *,
        projection_size: int,
        n_subspaces: int,
        temperature: float,
    ) -> None:
        """Draws the heads.

        Args:
            encoder: Gives vectors.
            users: Text vectors by dense user id.
            items: Text vectors by dense item id.
            projection_size: Length of an aligned vector, per subspace.
            n_subspaces: Parts that each side is compared in.
            temperature: Divides the similarities.
        """
        super().__init__()
        assert encoder.user_dim is not None and encoder.item_dim is not None
        self.encoder = encoder
        self.n_subspaces, self.temperature = n_subspaces, temperature
        width = projection_size * n_subspaces
        self.vector_head = nn.Linear(encoder.user_dim + encoder.item_dim, width)
        self.text_head = nn.Linear(users.vectors.shape[1] + items.vectors.shape[1], width)
        self.user_text: Tensor
        self.item_text: Tensor
        self.user_code: Tensor
        self.item_code: Tensor
        for name, side in (("user", users), ("item", items)):
            self.register_buffer(f"{name}_text", standardised(side), persistent=False)
            self.register_buffer(f"{name}_code", side.codes, persistent=False)

    def loss(self, batch: EncoderBatch) -> Tensor:
        """Mean of the two directions' cross-entropies; rows with the same text are not negatives of each other.

        Args:
            batch: Rows; labels are not read.

        Returns:
            float32 scalar; 0 for a batch of one row.
        """
        pair = self.encoder.encode(batch)
        vectors = self._parts(self.vector_head(torch.cat([pair.user, pair.item], dim=1)))
        texts = self._parts(self.text_head(torch.cat([self.user_text[batch.user], self.item_text[batch.item]], dim=1)))
        user, item = self.user_code[batch.user], self.item_code[batch.item]
        same = (user[:, None] == user) & (item[:, None] == item)
        same.fill_diagonal_(False)
        target = torch.arange(len(user), device=user.device)
        there = similarity(vectors, texts).masked_fill(same, -torch.inf) / self.temperature
        back = similarity(texts, vectors).masked_fill(same, -torch.inf) / self.temperature
        return (F.cross_entropy(there, target) + F.cross_entropy(back, target)) / 2

    def parameter_groups(self, fit: FitConfig) -> list[dict[str, Any]]:
        """Puts encoder and heads into one group with the stage's step size and coupled L2."""
        params = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return [{"params": params, "lr": fit.learning_rate, "weight_decay": fit.weight_decay}]

    def _parts(self, projected: Tensor) -> Tensor:
        """Unit vectors of the subspaces, [batch, n_subspaces, projection_size]."""
        return F.normalize(projected.view(len(projected), self.n_subspaces, -1), dim=-1)


def similarity(one: Tensor, other: Tensor) -> Tensor:
    """Mean over the parts of `one` of the cosine with the most similar part of `other`.

    Args:
        one: Unit vectors, float [n, n_subspaces, size].
        other: Unit vectors, float [m, n_subspaces, size].

    Returns:
        float [n, m] in [-1, 1]; with one subspace the cosine itself.
    """
    n_parts = one.shape[1]
    total = torch.zeros(len(one), len(other), device=one.device)
    for part in range(n_parts):
        # One part at a time: [n, m, n_subspaces] and not its square.
        cosines = torch.stack([one[:, part] @ other[:, each].T for each in range(n_parts)])
        total = total + cosines.amax(dim=0)
    return total / n_parts


def standardised(side: TextVectors) -> Tensor:
    """Text vectors with mean 0 and variance 1 per dimension over the distinct texts; rows without a text stay 0.

    Returns:
        float32 [n_texts, hidden].
    """
    real = side.codes > 0
    _, first = torch.unique(side.codes[real], return_inverse=True)
    order = torch.full((int(first.max()) + 1 if len(first) else 0,), -1)
    order[first] = torch.arange(len(first))
    distinct = side.vectors[real][order]
    if len(distinct) < 2:
        return torch.zeros_like(side.vectors)
    scaled = (side.vectors - distinct.mean(dim=0)) / distinct.std(dim=0).clamp(min=1e-6)
    return torch.where(real[:, None], scaled, 0.0)
