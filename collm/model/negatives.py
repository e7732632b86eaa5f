"""Draws items that a user has no positive training row for: what sampled-negative losses need."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from collm.contracts.encoder import TrainRows
from collm.errors import DataError

MAX_REDRAWS = 20


class NegativeSampler(nn.Module):
    """Uniform over the catalogue minus the user's training positives.

    Randomness comes from torch's global generator, so a checkpoint that holds its state continues the same draws.
    Memory: 8 bytes per positive training row.
    """

    positives: Tensor

    def __init__(self, train: TrainRows, n_items: int) -> None:
        """Indexes the positive rows.

        Args:
            train: Training rows.
            n_items: Items without padding; draws run 1..n_items.

        Raises:
            DataError: If there is no item to draw.
        """
        super().__init__()
        if n_items < 1:
            raise DataError("negative sampling: the catalogue holds no item; sampled negatives need at least one")
        self.n_items = n_items
        positive = train.label > 0
        keys = np.unique(train.user[positive].astype(np.int64) * (n_items + 1) + train.item[positive])
        self.register_buffer("positives", torch.from_numpy(keys), persistent=False)

    def sample(self, users: Tensor) -> Tensor:
        """Draws one item per user.

        A user who liked (almost) every item may keep a positive after 20 redraws: a rare wrong negative is better than
        a loop without end.

        Args:
            users: int64 [batch].

        Returns:
            int64 [batch] item ids, 1..n_items.
        """
        items = self._draw(users.numel(), users.device)
        for _ in range(MAX_REDRAWS):
            wrong = self.is_positive(users, items).nonzero().squeeze(1)
            if wrong.numel() == 0:
                break
            items[wrong] = self._draw(wrong.numel(), users.device)
        return items

    def is_positive(self, users: Tensor, items: Tensor) -> Tensor:
        """Returns whether (user, item) is a positive training pair: bool [batch] for int64 [batch] each."""
        keys = users * (self.n_items + 1) + items
        if self.positives.numel() == 0:
            return torch.zeros_like(keys, dtype=torch.bool)
        place = torch.searchsorted(self.positives, keys).clamp(max=self.positives.numel() - 1)
        return self.positives[place] == keys

    def _draw(self, n: int, device: torch.device) -> Tensor:
        """Returns int64 [n] items; drawn on the CPU so that the numbers do not depend on the device."""
        return torch.randint(1, self.n_items + 1, (n,)).to(device)
