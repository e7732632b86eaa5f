"""Dice and the attention pooling of DIN. They know vectors and masks, nothing of ids or labels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPSILON = 1e-8  # the original's


class Dice(nn.Module):
    """The data-adaptive activation: p x + (1 - p) alpha x with p = sigmoid(batch norm of x) (Zhou 2018, equation 3)."""

    def __init__(self, dim: int) -> None:
        """Builds the norm and alpha = 0.

        Args:
            dim: Length of a vector.
        """
        super().__init__()
        self.norm = nn.BatchNorm1d(dim, eps=NORM_EPSILON)
        self.alpha = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Activates float [n, dim]; a single vector has no variance, so it is normed by the running statistics."""
        norm = self.norm
        if self.training and x.shape[0] < 2:
            scaled = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        else:
            scaled = norm(x)
        gate = torch.sigmoid(scaled)
        return gate * x + (1 - gate) * self.alpha * x


def dice_network(widths: Sequence[int], *, dropout: float) -> nn.Sequential:
    """Builds linear layers with Dice between them, none after the last.

    Args:
        widths: Input width, hidden widths, output width.
        dropout: Dropout probability after each Dice.
    """
    layers: list[nn.Module] = []
    pairs = list(pairwise(widths))
    for index, (width_in, width_out) in enumerate(pairs):
        linear = nn.Linear(width_in, width_out)
        nn.init.xavier_normal_(linear.weight)
        nn.init.zeros_(linear.bias)
        layers.append(linear)
        if index < len(pairs) - 1:
            layers += [Dice(width_out), nn.Dropout(dropout)]
    return nn.Sequential(*layers)


class AttentionPooling(nn.Module):
    """Weighted sum of the history; a weight comes from a small network on (target, item), without softmax (fact 20)."""

    def __init__(self, dim: int, *, widths: Sequence[int], norm_padding: bool = False) -> None:
        """Builds the weight network.

        Args:
            dim: Length of one embedding.
            widths: Widths of its layers before the single output.
            norm_padding: Whether padding enters the norms' statistics in training, as in the reference.
        """
        super().__init__()
        self.norm_padding = norm_padding
        self.network = dice_network([4 * dim, *widths], dropout=0.0)
        self.weight = nn.Linear(widths[-1], 1)
        nn.init.xavier_normal_(self.weight.weight)
        nn.init.zeros_(self.weight.bias)

    def forward(self, target: Tensor, items: Tensor, real: Tensor) -> Tensor:
        """Pools.

        Padding never enters the sum. Into the norms' statistics it goes only with `norm_padding`; otherwise only real
        positions pass the network.

        Args:
            target: float [batch, dim].
            items: float [batch, length, dim].
            real: bool [batch, length], False = padding.

        Returns:
            float [batch, dim]; 0 for a row without history.
        """
        # Evaluation norms by the running statistics, so there padding has no say in either case.
        passed = torch.ones_like(real) if self.norm_padding and self.training else real
        row, _ = passed.nonzero(as_tuple=True)
        seen, wanted = items[passed], target[row]  # [n_passed, dim] each
        pooled = torch.zeros_like(target)
        if row.numel() == 0:
            return pooled
        pair = torch.cat([wanted, seen, wanted - seen, wanted * seen], dim=-1)
        weight = self.weight(self.network(pair)) * real[passed].unsqueeze(1)
        return pooled.index_add(0, row, (weight * seen).to(pooled.dtype))
