"""The positive training graph as a normalised sparse matrix, and the propagation over it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from collm.contracts.encoder import EncoderData
from collm.errors import DataError


@dataclass(frozen=True)
class Adjacency:
    """A symmetric matrix in compressed rows. Node ids: users 0..n_users, then items 0..n_items; both 0 are isolated.

    Attributes:
        row_start: int32 [n_nodes + 1], or int64 where there are more entries than int32 counts.
        column: like `row_start`, [n_entries].
        value: float32 [n_entries], 1 / sqrt(degree(user) * degree(item)).
    """

    row_start: Tensor
    column: Tensor
    value: Tensor


def positive_adjacency(data: EncoderData) -> Adjacency:
    """Builds D^-1/2 A D^-1/2 of the positive training pairs, without self loops (fact 17).

    A pair counts once however often it occurs. Memory is O(edges).

    Args:
        data: What the encoder is fitted on.

    Raises:
        DataError: If no training row is positive.
    """
    positive = data.train.label > 0
    user, item = data.train.user[positive], data.train.item[positive]
    if user.size == 0:
        raise DataError(
            f"lightgcn: the graph has no edge, because none of the {data.train.label.size} training rows is positive; "
            "check the label rule and `dataset.limit.train`, or use an encoder without a graph"
        )
    shape = (data.n_users + 1, data.n_items + 1)
    block = sparse.csr_matrix((np.ones(user.size, dtype=np.float32), (user, item)), shape=shape)
    block.sum_duplicates()
    user_degree = np.diff(block.indptr)
    item_degree = np.bincount(block.indices, minlength=shape[1])
    with np.errstate(divide="ignore"):
        user_scale, item_scale = 1 / np.sqrt(user_degree), 1 / np.sqrt(item_degree)
    block.data = (np.repeat(user_scale, user_degree) * item_scale[block.indices]).astype(np.float32)
    matrix = sparse.bmat([[None, block], [block.T.tocsr(), None]], format="csr")
    return Adjacency(
        row_start=torch.from_numpy(matrix.indptr),
        column=torch.from_numpy(matrix.indices),
        value=torch.from_numpy(matrix.data),
    )


def mean_of_layers(adjacency: Adjacency, embedding: Tensor, n_layers: int) -> Tensor:
    """Returns the mean of A^0 x .. A^n_layers x (LightGCN, equation 8 with equal weights).

    Args:
        adjacency: The symmetric matrix A.
        embedding: float32 [n_nodes, dim], x.
        n_layers: How often x is propagated.

    Returns:
        float32 [n_nodes, dim].
    """
    n_nodes = embedding.shape[0]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        matrix = torch.sparse_csr_tensor(
            adjacency.row_start, adjacency.column, adjacency.value, (n_nodes, n_nodes), check_invariants=False
        )
    layer, total = embedding, embedding.clone()
    for _ in range(n_layers):
        layer = matrix @ layer
        total += layer
    return total.div_(n_layers + 1)


class Propagation(torch.autograd.Function):
    """`mean_of_layers` with its gradient.

    The operator is symmetric, so its gradient is the operator itself: nothing is stored between the layers.
    """

    @staticmethod
    def forward(ctx: Any, embedding: Tensor, adjacency: Adjacency, n_layers: int) -> Tensor:
        """Propagates float32 [n_nodes, dim]."""
        ctx.adjacency, ctx.n_layers = adjacency, n_layers
        return mean_of_layers(adjacency, embedding, n_layers)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Propagates the gradient, float32 [n_nodes, dim]."""
        return mean_of_layers(ctx.adjacency, gradients[0], ctx.n_layers), None, None
