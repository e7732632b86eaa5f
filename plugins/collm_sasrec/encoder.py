"""SASRec as an encoder: the last state stands for the user, the input table for the item (fact 18)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from collm.component import BuildContext
from collm.contracts.encoder import EncodedPair, EncoderBatch, EncoderData, FitConfig, TrainRows
from collm.errors import DataError
from collm.model.encoder import EncoderModule
from collm.model.negatives import NegativeSampler
from collm_sasrec.blocks import NORM_EPSILON, Block, attention_mask
from collm_sasrec.config import SASRecConfig

N_CHUNKS = 4
MIN_ROWS_TO_SORT = 256


def mean_rows_per_user(train: TrainRows) -> int:
    """Returns the mean number of training rows per user that has any, rounded, at least 1 (the paper's max length)."""
    n_users = np.unique(train.user).size
    return max(1, round(train.user.size / n_users)) if n_users else 1


def trim(window: Tensor) -> Tensor:
    """Cuts leading columns that hold padding only: int64 [batch, length] to [batch, at least 1]."""
    used = (window != 0).any(dim=0).nonzero()
    first = int(used[0]) if used.numel() else window.shape[1] - 1
    return window[:, first:]


class SASRec(EncoderModule):
    """Causal self-attention over the history; the score is last state . item embedding, plus biases if asked for.

    A history is cut or left-padded to `max_length` first, so a row's result does not depend on how far its batch was
    padded, and positions count from the target backwards.
    """

    gives = frozenset({"scores", "vectors"})
    fit_mode = "gradient"

    def __init__(
        self,
        data: EncoderData,
        *,
        embedding_size: int,
        max_length: int | None,
        n_blocks: int,
        n_heads: int,
        dropout: float,
        init_std: float,
        attend_padding: bool,
        objective: Literal["scorer", "next-item"],
        biases: bool,
        bias_learning_rate: float,
        bias_weight_decay: float,
    ) -> None:
        """Draws the tables and builds the blocks.

        Args:
            data: Sizes and training rows.
            embedding_size: Length of an item embedding and of a state.
            max_length: History items at most; None = mean number of training rows per user.
            n_blocks: Attention blocks.
            n_heads: Attention heads.
            dropout: Dropout probability.
            init_std: Standard deviation of the initial embeddings.
            attend_padding: Whether padding takes part in the attention.
            objective: `scorer` or `next-item`.
            biases: Whether the score has biases.
            bias_learning_rate: Adam's step size of the biases.
            bias_weight_decay: L2 coefficient on the biases.
        """
        super().__init__()
        self.history_items = max_length or mean_rows_per_user(data.train)
        self.user_dim = self.item_dim = embedding_size + int(biases)
        self.attend_padding = attend_padding
        self.bias_fit = {"lr": bias_learning_rate, "weight_decay": bias_weight_decay}
        self.item_embedding = nn.Embedding(data.n_items + 1, embedding_size, padding_idx=0)
        self.position_embedding = nn.Parameter(torch.empty(self.history_items, embedding_size))
        nn.init.normal_(self.item_embedding.weight, std=init_std)
        nn.init.normal_(self.position_embedding, std=init_std)
        with torch.no_grad():
            self.item_embedding.weight[0] = 0
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(embedding_size, n_heads=n_heads, dropout=dropout) for _ in range(n_blocks))
        self.last_norm = nn.LayerNorm(embedding_size, eps=NORM_EPSILON)
        self.user_bias = nn.Parameter(torch.zeros(data.n_users + 1)) if biases else None
        self.item_bias = nn.Parameter(torch.zeros(data.n_items + 1)) if biases else None
        self.global_bias = nn.Parameter(torch.zeros(())) if biases else None
        self.sampler = NegativeSampler(data.train, data.n_items) if objective == "next-item" else None

    def settled(self) -> Mapping[str, Any]:
        """Returns the length of the window, of which the config may say that the training rows decide it."""
        return {"max_length": self.history_items}

    def state(self, history: Tensor | None) -> Tensor:
        """Returns the state at the last position after the final normalisation (the user vector).

        Args:
            history: int64 [batch, any length] items, oldest first, left-padded with 0.

        Returns:
            float32 [batch, embedding_size]; finite for a row without history.

        Raises:
            DataError: If there is no history at all.
        """
        if history is None:
            raise DataError("sasrec: the batch carries no history; rows for this encoder need `history`")
        window = self._window(history)
        if self.attend_padding or window.shape[0] < MIN_ROWS_TO_SORT:
            return self._state(window)
        # Most histories are far shorter than the longest: rows of like length together need fewer padded positions.
        order = (window != 0).sum(dim=1).argsort(stable=True)
        states = [self._state(trim(window[rows])) for rows in order.chunk(N_CHUNKS)]
        return torch.cat(states)[order.argsort()]

    def _state(self, window: Tensor) -> Tensor:
        """Returns the last states, float32 [batch, embedding_size], of int64 [batch, length <= history_items]."""
        real = window != 0
        keep = real.unsqueeze(-1)
        items = self.item_embedding(window) * self.item_embedding.embedding_dim**0.5
        states = self.dropout(items + self.position_embedding[-window.shape[1] :]) * keep
        mask = attention_mask(real, attend_padding=self.attend_padding)
        for index, block in enumerate(self.blocks):
            # Only the last position is read, so the last block computes no other.
            n_queries = 1 if index == len(self.blocks) - 1 else window.shape[1]
            states = block(states, mask, n_queries=n_queries) * keep[:, -n_queries:]
        last: Tensor = self.last_norm(states[:, -1])
        return last

    def score(self, batch: EncoderBatch) -> Tensor:
        """Returns logits, float32 [batch]."""
        return self._logits(self.state(batch.history), batch.user, batch.item)

    def factors(self, batch: EncoderBatch) -> tuple[Tensor, Tensor]:
        """Returns states and item embeddings, biases appended where there are any."""
        state, items = self.state(batch.history), self.item_embedding.weight
        if self.user_bias is None or self.item_bias is None or self.global_bias is None:
            return state, items
        bias = self.user_bias[batch.user] + self.global_bias
        users = torch.cat([state, bias[:, None], torch.ones_like(bias)[:, None]], dim=1)
        item_bias = self.item_bias[:, None]
        return users, torch.cat([items, torch.ones_like(item_bias), item_bias], dim=1)

    def loss(self, batch: EncoderBatch) -> Tensor:
        """Returns the mean loss of a labelled batch.

        `next-item`: each positive row is one step of its user's sequence, its target against one sampled item; rows
        with label 0 are left out, and the loss is 0 where there is no other.
        """
        if self.sampler is None or batch.label is None or batch.history is None:
            return super().loss(batch)
        positive = batch.label > 0
        user, item = batch.user[positive], batch.item[positive]
        state = self.state(batch.history[positive])
        better = self._logits(state, user, item)
        worse = self._logits(state, user, self.sampler.sample(user))
        return (F.softplus(-better) + F.softplus(worse)).sum() / max(1, user.numel())

    def encode(self, batch: EncoderBatch) -> EncodedPair:
        """Returns state and item embedding, float32 [batch, embedding_size], the bias appended where there is one."""
        user, item = self.state(batch.history), self.item_embedding(batch.item)
        if self.user_bias is not None and self.item_bias is not None:
            user = torch.cat([user, self.user_bias[batch.user].unsqueeze(1)], dim=1)
            item = torch.cat([item, self.item_bias[batch.item].unsqueeze(1)], dim=1)
        return EncodedPair(user=user, item=item)

    def parameter_groups(self, fit: FitConfig) -> list[dict[str, Any]]:
        """Returns tables and networks with the step size and decay of `fit`, and the biases with their own."""
        biases = [bias for bias in (self.user_bias, self.item_bias, self.global_bias) if bias is not None]
        known = {id(bias) for bias in biases}
        others = [parameter for parameter in self.parameters() if id(parameter) not in known]
        groups: list[dict[str, Any]] = [{"params": others, "lr": fit.learning_rate, "weight_decay": fit.weight_decay}]
        if biases:
            groups.append({"params": biases, **self.bias_fit})
        return groups

    def _window(self, history: Tensor) -> Tensor:
        """Returns the last `history_items` items, left-padded: int64 [batch, history_items]."""
        latest = history[:, -self.history_items :]
        return F.pad(latest, (self.history_items - latest.shape[1], 0))

    def _logits(self, state: Tensor, user: Tensor, item: Tensor) -> Tensor:
        """Returns logits, float32 [batch], of a state [batch, dim] and ids [batch]."""
        logits: Tensor = (state * self.item_embedding(item)).sum(dim=1)
        if self.user_bias is None or self.item_bias is None or self.global_bias is None:
            return logits
        return logits + self.user_bias[user] + self.item_bias[item] + self.global_bias


def build(config: SASRecConfig, *, data: EncoderData, context: BuildContext) -> SASRec:  # noqa: ARG001
    """Builds the encoder (contract: `collm.contracts.encoder.Encoder`)."""
    return SASRec(data, **config.model_dump(exclude={"name", "fit"}))
