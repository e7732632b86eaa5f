"""LightGCN as an encoder: one propagation per step, one per evaluation."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from collm.component import BuildContext
from collm.contracts.encoder import EncodedPair, EncoderBatch, EncoderData, FitConfig, IdTable
from collm.model.encoder import EncoderModule
from collm.model.negatives import NegativeSampler
from collm_lightgcn.config import LightGCNConfig
from collm_lightgcn.graph import Adjacency, Propagation, positive_adjacency


class LightGCN(EncoderModule):
    """Dot product of propagated embeddings, plus biases where asked for.

    The graph is made from the training rows at construction and lies in no file and no checkpoint: it cannot be stale.
    """

    gives = frozenset({"scores", "vectors"})
    fit_mode = "gradient"
    id_tables = dict.fromkeys(("embedding", "node_bias"), (IdTable("user"), IdTable("item", after="user")))
    row_start: Tensor
    column: Tensor
    value: Tensor

    def __init__(
        self,
        data: EncoderData,
        *,
        embedding_size: int,
        n_layers: int,
        init_std: float,
        loss: Literal["bce", "bpr"],
        biases: bool,
        bias_learning_rate: float,
        bias_weight_decay: float,
    ) -> None:
        """Builds the graph and draws the embeddings.

        Args:
            data: Sizes and training rows.
            embedding_size: Length of one embedding.
            n_layers: Propagation layers.
            init_std: Standard deviation of the initial embeddings.
            loss: `bce` or `bpr`.
            biases: Whether the score has biases.
            bias_learning_rate: Adam's step size of the biases.
            bias_weight_decay: L2 coefficient on the biases.

        Raises:
            DataError: If no training row is positive.
        """
        super().__init__()
        self.first_item = data.n_users + 1
        self.n_layers = n_layers
        self.bias_fit = {"lr": bias_learning_rate, "weight_decay": bias_weight_decay}
        self.user_dim = self.item_dim = embedding_size + int(biases)
        n_nodes = data.n_users + data.n_items + 2
        self.embedding = nn.Parameter(torch.empty(n_nodes, embedding_size).normal_(std=init_std))
        with torch.no_grad():
            self.embedding[[0, self.first_item]] = 0  # padding nodes: no edge, no row, so they stay zero
        self.node_bias = nn.Parameter(torch.zeros(n_nodes)) if biases else None
        # A difference of two scores of one user knows no global bias, so BPR has none.
        self.global_bias = nn.Parameter(torch.zeros(())) if biases and loss == "bce" else None
        adjacency = positive_adjacency(data)
        self.register_buffer("row_start", adjacency.row_start, persistent=False)
        self.register_buffer("column", adjacency.column, persistent=False)
        self.register_buffer("value", adjacency.value, persistent=False)
        self.sampler = NegativeSampler(data.train, data.n_items) if loss == "bpr" else None
        self._table: Tensor | None = None
        self._table_key: tuple[int, torch.device] | None = None

    def propagated(self) -> Tensor:
        """Returns the propagated embeddings, float32 [n_nodes, embedding_size].

        Without gradients in evaluation mode the table is computed once and kept until the embeddings change.
        """
        if self.training or torch.is_grad_enabled():
            self._table = None
            return self._propagate()
        key = (self.embedding._version, self.embedding.device)
        if self._table is None or self._table_key != key:
            self._table, self._table_key = self._propagate(), key
        return self._table

    def train(self, mode: bool = True) -> LightGCN:
        """Switches the mode and forgets the kept table."""
        self._table = None
        super().train(mode)
        return self

    def score(self, batch: EncoderBatch) -> Tensor:
        """Returns logits, float32 [batch]."""
        table = self.propagated()
        user, item = self._nodes(batch)
        logits = (F.embedding(user, table) * F.embedding(item, table)).sum(dim=1)
        if self.node_bias is None:
            return logits
        logits = logits + self.node_bias[user] + self.node_bias[item]
        return logits if self.global_bias is None else logits + self.global_bias

    def factors(self, batch: EncoderBatch) -> tuple[Tensor, Tensor]:
        """Returns propagated embeddings of the users and of all items, biases appended where there are any."""
        table, user = self.propagated(), batch.user
        if self.node_bias is None:
            return F.embedding(user, table), table[self.first_item :]
        bias = self.node_bias[user] + (0.0 if self.global_bias is None else self.global_bias)
        users = torch.cat([F.embedding(user, table), bias[:, None], torch.ones_like(bias)[:, None]], dim=1)
        item_bias = self.node_bias[self.first_item :, None]
        return users, torch.cat([table[self.first_item :], torch.ones_like(item_bias), item_bias], dim=1)

    def loss(self, batch: EncoderBatch) -> Tensor:
        """Returns the mean loss of a labelled batch; BPR uses its positive rows only and is 0 where there is none."""
        if self.sampler is None or batch.label is None:
            return super().loss(batch)
        positive = batch.label > 0
        user, item = batch.user[positive], batch.item[positive]
        negative = self.sampler.sample(user)
        pair = EncoderBatch(user=torch.cat([user, user]), item=torch.cat([item, negative]))
        better, worse = self.score(pair).chunk(2)
        return F.softplus(worse - better).sum() / max(1, user.numel())

    def encode(self, batch: EncoderBatch) -> EncodedPair:
        """Returns propagated embeddings, float32 [batch, embedding_size], the bias appended where there is one."""
        table = self.propagated()
        user, item = self._nodes(batch)
        return EncodedPair(user=self._vector(table, user), item=self._vector(table, item))

    def parameter_groups(self, fit: FitConfig) -> list[dict[str, Any]]:
        """Returns the embeddings with the step size and decay of `fit`, and the biases with their own."""
        groups: list[dict[str, Any]] = [
            {"params": [self.embedding], "lr": fit.learning_rate, "weight_decay": fit.weight_decay}
        ]
        biases = [bias for bias in (self.node_bias, self.global_bias) if bias is not None]
        if biases:
            groups.append({"params": biases, **self.bias_fit})
        return groups

    def _propagate(self) -> Tensor:
        """Returns the propagated embeddings, differentiable; float32 whatever the parameters' format."""
        adjacency = Adjacency(self.row_start, self.column, self.value.float())
        table: Tensor = Propagation.apply(  # type: ignore[no-untyped-call]
            self.embedding.float(), adjacency, self.n_layers
        )
        return table

    def _nodes(self, batch: EncoderBatch) -> tuple[Tensor, Tensor]:
        """Returns the node ids of users and items, int64 [batch] each."""
        return batch.user, batch.item + self.first_item

    def _vector(self, table: Tensor, node: Tensor) -> Tensor:
        """Returns the rows of some nodes, float32 [batch, user_dim]."""
        rows = F.embedding(node, table)
        if self.node_bias is None:
            return rows
        return torch.cat([rows, self.node_bias[node].unsqueeze(1)], dim=1)


def build(config: LightGCNConfig, *, data: EncoderData, context: BuildContext) -> LightGCN:  # noqa: ARG001
    """Builds the encoder (contract: `collm.contracts.encoder.Encoder`)."""
    return LightGCN(data, **config.model_dump(exclude={"name", "fit"}))
