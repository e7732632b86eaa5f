"""DIN as an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from collm.component import BuildContext
from collm.contracts.encoder import EncodedPair, EncoderBatch, EncoderData, FitConfig
from collm.errors import DataError
from collm.model.encoder import EncoderModule
from collm_din.config import DINConfig
from collm_din.layers import AttentionPooling, dice_network


def xavier_table(n_rows: int, dim: int) -> nn.Embedding:
    """Returns an embedding table drawn as the reference draws it, row 0 (padding) zero."""
    table = nn.Embedding(n_rows, dim, padding_idx=0)
    nn.init.xavier_normal_(table.weight)
    with torch.no_grad():
        table.weight[0] = 0
    return table


class DIN(EncoderModule):
    """A Dice network on [target, pooled history, user], plus biases where asked for.

    Vectors (fact 20): target-aware, user = [target, pooled history, user] and item = the target three times; otherwise
    user = [mean of the history, user] and item = the target twice. Both sides are of one length, so one mapping serves.
    """

    gives = frozenset({"scores", "vectors"})
    fit_mode = "gradient"

    def __init__(
        self,
        data: EncoderData,
        *,
        embedding_size: int,
        target_aware: bool,
        max_length: int | None,
        attention_layers: Sequence[int],
        norm_padding: bool,
        layers: Sequence[int],
        dropout: float,
        biases: bool,
        bias_learning_rate: float,
        bias_weight_decay: float,
    ) -> None:
        """Draws the tables and builds the networks.

        Args:
            data: Sizes.
            embedding_size: Length of one embedding.
            target_aware: Whether the history is pooled with the target in view.
            max_length: History items at most; None = the spec's `history.max_items`.
            attention_layers: Widths of the attention network.
            norm_padding: Whether padding enters the statistics of the attention's norms in training.
            layers: Widths of the scoring network.
            dropout: Dropout probability in the scoring network.
            biases: Whether the score has biases.
            bias_learning_rate: Adam's step size of the biases.
            bias_weight_decay: L2 coefficient on the biases.
        """
        super().__init__()
        self.history_items = max_length or data.history_items
        self.user_depends_on_item = target_aware
        self.n_repeats = 3 if target_aware else 2
        self.user_dim = self.item_dim = self.n_repeats * embedding_size + int(biases)
        self.bias_fit = {"lr": bias_learning_rate, "weight_decay": bias_weight_decay}
        self.user_embedding = xavier_table(data.n_users + 1, embedding_size)
        self.item_embedding = xavier_table(data.n_items + 1, embedding_size)
        self.history_embedding = xavier_table(data.n_items + 1, embedding_size)
        self.attention = (
            AttentionPooling(embedding_size, widths=attention_layers, norm_padding=norm_padding)
            if target_aware
            else None
        )
        self.network = dice_network([3 * embedding_size, *layers, 1], dropout=dropout)
        self.user_bias = nn.Parameter(torch.zeros(data.n_users + 1)) if biases else None
        self.item_bias = nn.Parameter(torch.zeros(data.n_items + 1)) if biases else None
        self.global_bias = nn.Parameter(torch.zeros(())) if biases else None

    def pooled_history(self, target: Tensor, history: Tensor | None) -> Tensor:
        """Returns the pooled history.

        Args:
            target: float32 [batch, embedding_size] target embeddings.
            history: int64 [batch, any length] items, left-padded with 0.

        Returns:
            float32 [batch, embedding_size]; 0 for a row without history.

        Raises:
            DataError: If there is no history at all.
        """
        if history is None:
            raise DataError("din: the batch carries no history; rows for this encoder need `history`")
        latest = history[:, -self.history_items :]
        items, real = self.history_embedding(latest), latest != 0
        if self.attention is not None:
            attended: Tensor = self.attention(target, items, real)
            return attended
        pooled: Tensor = (items * real.unsqueeze(-1)).sum(dim=1) / real.sum(dim=1, keepdim=True).clamp(min=1)
        return pooled

    def score(self, batch: EncoderBatch) -> Tensor:
        """Returns logits, float32 [batch]."""
        target = self.item_embedding(batch.item)
        features = [target, self.pooled_history(target, batch.history), self.user_embedding(batch.user)]
        logits: Tensor = self.network(torch.cat(features, dim=1)).squeeze(1)
        if self.user_bias is None or self.item_bias is None or self.global_bias is None:
            return logits
        return logits + self.user_bias[batch.user] + self.item_bias[batch.item] + self.global_bias

    def encode(self, batch: EncoderBatch) -> EncodedPair:
        """Returns the vectors of the class docstring, float32 [batch, user_dim], each with its bias if there is one."""
        target = self.item_embedding(batch.item)
        user = [self.pooled_history(target, batch.history), self.user_embedding(batch.user)]
        item = [target] * self.n_repeats
        if self.attention is not None:
            user.insert(0, target)
        if self.user_bias is not None and self.item_bias is not None:
            user.append(self.user_bias[batch.user].unsqueeze(1))
            item.append(self.item_bias[batch.item].unsqueeze(1))
        return EncodedPair(user=torch.cat(user, dim=1), item=torch.cat(item, dim=1))

    def parameter_groups(self, fit: FitConfig) -> list[dict[str, Any]]:
        """Returns tables and networks with the step size and decay of `fit`, and the biases with their own."""
        biases = [bias for bias in (self.user_bias, self.item_bias, self.global_bias) if bias is not None]
        known = {id(bias) for bias in biases}
        others = [parameter for parameter in self.parameters() if id(parameter) not in known]
        groups: list[dict[str, Any]] = [{"params": others, "lr": fit.learning_rate, "weight_decay": fit.weight_decay}]
        if biases:
            groups.append({"params": biases, **self.bias_fit})
        return groups


def build(config: DINConfig, *, data: EncoderData, context: BuildContext) -> DIN:  # noqa: ARG001
    """Builds the encoder (contract: `collm.contracts.encoder.Encoder`)."""
    return DIN(data, **config.model_dump(exclude={"name", "fit"}))
