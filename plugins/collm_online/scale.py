"""Vectors centred and scaled by what training rows show of them."""

from __future__ import annotations

import torch
from torch import nn

SMALLEST_SPREAD = 1e-6


class Scale(nn.Module):
    """Centres vectors and scales them to a total variance of 1 over the rows that were added."""

    n: torch.Tensor
    mean: torch.Tensor
    scatter: torch.Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("n", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(dim, dtype=torch.float64))
        self.register_buffer("scatter", torch.zeros(dim, dim, dtype=torch.float64))

    def add(self, vectors: torch.Tensor) -> None:
        """Adds float32 [n, dim] vectors (Chan et al.'s update of means and scatter matrices)."""
        n_new, vectors = len(vectors), vectors.double()
        mean = vectors.mean(0)
        total, gap, centred = self.n + n_new, mean - self.mean, vectors - mean
        self.scatter += centred.T @ centred + torch.outer(gap, gap) * self.n * n_new / total
        self.mean += gap * n_new / total
        self.n.fill_(total)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Returns float32 [n, dim] scaled vectors; unchanged where no row was added."""
        return self._divided(vectors - self.mean.to(vectors.dtype), self.scatter.trace()) if self.n else vectors

    def weighted(self, vectors: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Returns weighted sums of vectors, float32 [n, 1], centred and scaled to a variance of 1."""
        if not self.n:
            return (vectors @ weights)[:, None]
        sums = (vectors - self.mean.to(vectors.dtype)) @ weights
        return self._divided(sums[:, None], weights.double() @ self.scatter @ weights.double())

    def _divided(self, centred: torch.Tensor, scatter: torch.Tensor) -> torch.Tensor:
        return centred / (scatter / self.n).sqrt().clamp(min=SMALLEST_SPREAD).to(centred.dtype)
