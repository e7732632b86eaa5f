"""Both matrix factorisations. They know ids only: no history, no text."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from collm.component import BuildContext
from collm.contracts.encoder import EncodedPair, EncoderBatch, EncoderData, FitConfig
from collm.model.encoder import EncoderModule
from collm_mf.config import MfBiasConfig, MfConfig

SCORES_AND_VECTORS = frozenset({"scores", "vectors"})


class MatrixFactorization(EncoderModule):
    """Logit = <p_u, q_i>, as in the reference (fact 16).

    Row 0 is padding and stays 0. Rows of ids that training never shows keep no gradient; coupled L2 pulls them from
    their random start towards 0 (fact 31), as it does in the reference.
    """

    gives = SCORES_AND_VECTORS

    def __init__(self, n_users: int, n_items: int, *, embedding_size: int, init_std: float) -> None:
        super().__init__()
        self.user_factors = nn.Embedding(n_users + 1, embedding_size, padding_idx=0)
        self.item_factors = nn.Embedding(n_items + 1, embedding_size, padding_idx=0)
        for table in (self.user_factors, self.item_factors):
            nn.init.normal_(table.weight, std=init_std)
            clear_rows(table, np.array([0]))
        self.user_dim = self.item_dim = embedding_size

    def score(self, batch: EncoderBatch) -> torch.Tensor:
        """Returns logits, float32 [batch]."""
        logits: torch.Tensor = (self.user_factors(batch.user) * self.item_factors(batch.item)).sum(dim=-1)
        return logits

    def factors(self, batch: EncoderBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the factors of the users, and of all items."""
        return self.user_factors(batch.user), self.item_factors.weight

    def encode(self, batch: EncoderBatch) -> EncodedPair:
        """Returns the factors, float32 [batch, d] each."""
        return EncodedPair(user=self.user_factors(batch.user), item=self.item_factors(batch.item))


class BiasedMatrixFactorization(EncoderModule):
    """Logit = g + b_u + b_i + <p_u, q_i>.

    Vectors are [factors, bias], d + 1 numbers for users and items alike: the mapping g_phi sees what carries nearly all
    of the score, and stays one module for both sides. Padding and ids that training never shows start at exactly 0 and
    stay there, because neither gradient nor L2 moves a zero (fact 31): an unknown user adds nothing to the logit.
    """

    gives = SCORES_AND_VECTORS

    def __init__(self, data: EncoderData, *, embedding_size: int, init_std: float, bias_weight_decay: float) -> None:
        super().__init__()
        self._bias_weight_decay = bias_weight_decay
        self.user_factors = nn.Embedding(data.n_users + 1, embedding_size)
        self.item_factors = nn.Embedding(data.n_items + 1, embedding_size)
        self.user_bias = nn.Embedding(data.n_users + 1, 1)
        self.item_bias = nn.Embedding(data.n_items + 1, 1)
        self.global_bias = nn.Parameter(torch.zeros(()))
        for table, seen in ((self.user_factors, data.train.user), (self.item_factors, data.train.item)):
            nn.init.normal_(table.weight, std=init_std)
            clear_rows(table, np.setdiff1d(np.arange(table.num_embeddings), seen[seen > 0]))
        for table in (self.user_bias, self.item_bias):
            nn.init.zeros_(table.weight)
        self.user_dim = self.item_dim = embedding_size + 1

    def score(self, batch: EncoderBatch) -> torch.Tensor:
        """Returns logits, float32 [batch]."""
        match = (self.user_factors(batch.user) * self.item_factors(batch.item)).sum(dim=-1)
        bias = self.user_bias(batch.user) + self.item_bias(batch.item)  # [batch, 1]
        logits: torch.Tensor = self.global_bias + bias.squeeze(-1) + match
        return logits

    def factors(self, batch: EncoderBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns [factors, user's and global bias, 1] and [factors, 1, bias], d + 2 numbers."""
        bias = self.user_bias(batch.user) + self.global_bias
        user = torch.cat([self.user_factors(batch.user), bias, torch.ones_like(bias)], dim=-1)
        item_bias = self.item_bias.weight
        return user, torch.cat([self.item_factors.weight, torch.ones_like(item_bias), item_bias], dim=-1)

    def encode(self, batch: EncoderBatch) -> EncodedPair:
        """Returns [factors, bias], float32 [batch, d + 1] each."""
        user = torch.cat([self.user_factors(batch.user), self.user_bias(batch.user)], dim=-1)
        item = torch.cat([self.item_factors(batch.item), self.item_bias(batch.item)], dim=-1)
        return EncodedPair(user=user, item=item)

    def parameter_groups(self, fit: FitConfig) -> list[dict[str, Any]]:
        """Returns factors, biases and the global bias with an L2 coefficient each; the global bias has none."""
        factors = [self.user_factors.weight, self.item_factors.weight]
        biases = [self.user_bias.weight, self.item_bias.weight]
        return [
            {"params": factors, "lr": fit.learning_rate, "weight_decay": fit.weight_decay},
            {"params": biases, "lr": fit.learning_rate, "weight_decay": self._bias_weight_decay},
            {"params": [self.global_bias], "lr": fit.learning_rate, "weight_decay": 0.0},
        ]


def clear_rows(table: nn.Embedding, rows: np.ndarray[Any, Any]) -> None:
    """Sets rows of a table to 0.

    Args:
        table: Changed in place.
        rows: int64 row numbers.
    """
    with torch.no_grad():
        table.weight[torch.from_numpy(rows.astype(np.int64))] = 0.0


def build_mf(config: MfConfig, *, data: EncoderData, context: BuildContext) -> MatrixFactorization:
    """Builds `mf`."""
    del context
    return MatrixFactorization(
        data.n_users, data.n_items, embedding_size=config.embedding_size, init_std=config.init_std
    )


def build_mf_bias(config: MfBiasConfig, *, data: EncoderData, context: BuildContext) -> BiasedMatrixFactorization:
    """Builds `mf-bias`."""
    del context
    return BiasedMatrixFactorization(
        data,
        embedding_size=config.embedding_size,
        init_std=config.init_std,
        bias_weight_decay=config.bias_weight_decay,
    )
