"""Token tables that are sized when the backbone is known. They know ids, nothing of prompts or language models."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from collm.component import BuildContext
from collm.contracts.encoder import EncodedPair, EncoderBatch, EncoderData
from collm.errors import PluginError
from collm.model.encoder import EncoderModule
from collm_tokens.config import IdTokensConfig, SoftPromptConfig

UNBOUND_RMS = 0.02
"""Scale of a token where the config gives the width and no backbone gives the scale: the usual initial one."""


class TokenTables(EncoderModule):
    """Tables of learnt tokens, one for the user slot and one for the item slot.

    Without `hidden_size` the tables do not exist until `bind_backbone`, which the tuner calls before first use and
    before any state is loaded.

    Attributes:
        tokens_per_slot: Tokens in the user slot and in the item slot.
    """

    gives = frozenset({"llm-tokens"})
    fit_mode = "none"

    def __init__(self, *, n_user_rows: int, n_item_rows: int, n_tokens: int, hidden_size: int | None) -> None:
        """Takes the sizes; row 0 of a table with more than one row is padding.

        Args:
            n_user_rows: Rows of the user table, padding included.
            n_item_rows: Rows of the item table, padding included.
            n_tokens: Tokens per row.
            hidden_size: Width of a token; None = given later by `bind_backbone`.
        """
        super().__init__()
        self.tokens_per_slot = (n_tokens, n_tokens)
        self.user_tokens: nn.Parameter | None
        self.item_tokens: nn.Parameter | None
        self.register_parameter("user_tokens", None)
        self.register_parameter("item_tokens", None)
        self._n_rows = (n_user_rows, n_item_rows)
        self.hidden_size = hidden_size
        if hidden_size is not None:
            self._draw(hidden_size, UNBOUND_RMS)

    def bind_backbone(self, hidden_size: int, token_rms: float) -> None:
        """Draws the tables at the width and scale of a backbone's token embeddings.

        Args:
            hidden_size: Width of its token embeddings.
            token_rms: Root mean square of their entries, > 0: new tokens start at the scale the model knows.

        Raises:
            PluginError: If the config asks for another width.
        """
        if self.hidden_size is not None and self.hidden_size != hidden_size:
            raise PluginError(
                f"{type(self).__name__}: encoder.hidden_size is {self.hidden_size}, but the backbone's token "
                f"embeddings are {hidden_size} wide; leave encoder.hidden_size out"
            )
        self.hidden_size = hidden_size
        self._draw(hidden_size, token_rms)

    def encode(self, batch: EncoderBatch) -> EncodedPair:
        """Looks the tokens up.

        Args:
            batch: Rows.

        Returns:
            float32 [batch, n_tokens, hidden_size] for user and item.

        Raises:
            PluginError: If no backbone was bound.
        """
        if self.user_tokens is None or self.item_tokens is None:
            raise PluginError(
                f"{type(self).__name__}: the width of its tokens is unknown; call "
                "bind_backbone(hidden_size, token_rms) first, or set encoder.hidden_size"
            )
        return EncodedPair(user=self._rows(self.user_tokens, batch.user), item=self._rows(self.item_tokens, batch.item))

    def _draw(self, hidden_size: int, rms: float) -> None:
        """Draws both tables, [rows, n_tokens, hidden_size] with the given root mean square."""
        shapes = [(rows, self.tokens_per_slot[0], hidden_size) for rows in self._n_rows]
        user, item = (torch.empty(shape).normal_(std=rms) for shape in shapes)
        self.user_tokens, self.item_tokens = nn.Parameter(user), nn.Parameter(item)

    def _rows(self, table: Tensor, ids: Tensor) -> Tensor:
        """Returns the tokens of ids, [batch, n_tokens, hidden_size]."""
        raise NotImplementedError


class IdTokens(TokenTables):
    """Tokens of one's own for each user and each item; ids that were never trained keep their random start."""

    def _rows(self, table: Tensor, ids: Tensor) -> Tensor:
        """Returns the rows of the ids, [batch, n_tokens, hidden_size]."""
        return table[ids]


class SoftPrompt(TokenTables):
    """The same tokens for every user and the same for every item."""

    def _rows(self, table: Tensor, ids: Tensor) -> Tensor:
        """Returns the one row, once per id: [batch, n_tokens, hidden_size]."""
        return table[torch.zeros_like(ids)]


def build_id_tokens(config: IdTokensConfig, *, data: EncoderData, context: BuildContext) -> IdTokens:  # noqa: ARG001
    """Builds `id-tokens` (contract: `collm.contracts.encoder.Encoder`)."""
    return IdTokens(
        n_user_rows=data.n_users + 1,
        n_item_rows=data.n_items + 1,
        n_tokens=config.n_tokens,
        hidden_size=config.hidden_size,
    )


def build_soft_prompt(
    config: SoftPromptConfig,
    *,
    data: EncoderData,  # noqa: ARG001
    context: BuildContext,  # noqa: ARG001
) -> SoftPrompt:
    """Builds `soft-prompt` (contract: `collm.contracts.encoder.Encoder`)."""
    return SoftPrompt(n_user_rows=1, n_item_rows=1, n_tokens=config.n_tokens, hidden_size=config.hidden_size)
