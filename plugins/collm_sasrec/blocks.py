"""The attention blocks of SASRec. They know tensors and masks, nothing of users, items or labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPSILON = 1e-8  # the original's


def attention_mask(real: Tensor, *, attend_padding: bool) -> Tensor:
    """Returns which positions may see which: earlier ones and oneself.

    Args:
        real: bool [batch, length], False = padding.
        attend_padding: Whether padding may be seen by others. Where it may not, a position still sees itself, so that
            no row of the softmax is empty.

    Returns:
        bool [batch or 1, 1, length, length], [.., query, key].
    """
    length = real.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=real.device).tril()
    if attend_padding:
        return causal[None, None]
    itself = torch.eye(length, dtype=torch.bool, device=real.device)
    return (causal & (real[:, None, :] | itself)).unsqueeze(1)


class Block(nn.Module):
    """Self-attention with normalised queries, then a position-wise network, each with its residual (Kang 2018)."""

    def __init__(self, dim: int, *, n_heads: int, dropout: float) -> None:
        """Builds the layers.

        Args:
            dim: Length of a hidden state.
            n_heads: Attention heads; divides `dim`.
            dropout: Dropout probability on attention weights and in the network.
        """
        super().__init__()
        self.n_heads = n_heads
        self.dropout = dropout
        self.query_norm = nn.LayerNorm(dim, eps=NORM_EPSILON)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim, eps=NORM_EPSILON)
        self.network = nn.Sequential(
            nn.Linear(dim, dim), nn.Dropout(dropout), nn.ReLU(), nn.Linear(dim, dim), nn.Dropout(dropout)
        )
        for layer in (self.query, self.key_value, self.out):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, states: Tensor, mask: Tensor, *, n_queries: int) -> Tensor:
        """Runs the block for the last `n_queries` positions.

        Args:
            states: float [batch, length, dim].
            mask: bool [batch or 1, 1, length, length].
            n_queries: How many of the last positions are wanted; the others only serve as keys and values.

        Returns:
            float [batch, n_queries, dim].
        """
        queries = self.query_norm(states[:, -n_queries:])
        key, value = self.key_value(states).chunk(2, dim=-1)
        mixed = F.scaled_dot_product_attention(
            self._heads(self.query(queries)),
            self._heads(key),
            self._heads(value),
            attn_mask=mask[:, :, -n_queries:],
            dropout_p=self.dropout if self.training else 0.0,
        )
        states = self.norm(queries + self.out(mixed.transpose(1, 2).flatten(2)))
        result: Tensor = states + self.network(states)
        return result

    def _heads(self, states: Tensor) -> Tensor:
        """Returns [batch, n_heads, length, dim / n_heads]."""
        batch, length, dim = states.shape
        return states.view(batch, length, self.n_heads, dim // self.n_heads).transpose(1, 2)
