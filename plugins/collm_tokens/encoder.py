"""Token tables that are sized when the backbone is known. They know ids, nothing of prompts or language models."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from collm.component import BuildContext
from collm.contracts.encoder import EncodedPair, EncoderBatch, EncoderData, EncoderFacts, Side
from collm.errors import DataError, PluginError
from collm.model.encoder import EncoderModule
from collm_tokens.config import AttributeTokensConfig, IdTokensConfig, SoftPromptConfig

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

    def __init__(
        self,
        *,
        n_user_rows: int,
        n_item_rows: int,
        n_tokens: int,
        hidden_size: int | None,
    ) -> None:
        """Takes the sizes; row 0 of a table with more than one row is padding.

        Args:
            n_user_rows: Rows of the user table, padding included; 0 = no tokens for users.
            n_item_rows: Rows of the item table, padding included; 0 = no tokens for items.
            n_tokens: Tokens per row.
            hidden_size: Width of a token; None = given later by `bind_backbone`.
        """
        super().__init__()
        self.tokens_per_slot = (n_tokens if n_user_rows else 0, n_tokens if n_item_rows else 0)
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
        return EncodedPair(
            user=self._rows("user", self.user_tokens, batch.user), item=self._rows("item", self.item_tokens, batch.item)
        )

    def _draw(self, hidden_size: int, rms: float) -> None:
        """Draws both tables, [rows, n_tokens, hidden_size] with the given root mean square."""
        shapes = [
            (rows, n_tokens, hidden_size) for rows, n_tokens in zip(self._n_rows, self.tokens_per_slot, strict=True)
        ]
        user, item = (torch.empty(shape).normal_(std=rms) for shape in shapes)
        self.user_tokens, self.item_tokens = nn.Parameter(user), nn.Parameter(item)

    def _rows(self, side: Side, table: Tensor, ids: Tensor) -> Tensor:
        """Returns the tokens of ids, [batch, n_tokens, hidden_size]."""
        raise NotImplementedError


class IdTokens(TokenTables):
    """Tokens of one's own for each user and each item; ids that were never trained keep their random start."""

    def _rows(self, side: Side, table: Tensor, ids: Tensor) -> Tensor:  # noqa: ARG002 - the base's form
        """Returns the rows of the ids, [batch, n_tokens, hidden_size]."""
        return table[ids]


class SoftPrompt(TokenTables):
    """The same tokens for every user and the same for every item."""

    def _rows(self, side: Side, table: Tensor, ids: Tensor) -> Tensor:  # noqa: ARG002 - the base's form
        """Returns the one row, once per id: [batch, n_tokens, hidden_size]."""
        return table[torch.zeros_like(ids)]


class AttributeTokens(TokenTables):
    """Tokens of each value of an attribute; who has several values has the mean of their tokens.

    Row 0 of a table is the token of those without a value, and of unknown ids; it is learnt like the others.
    """

    def __init__(
        self, values: Mapping[Side, AttributeValues | None], *, n_tokens: int, hidden_size: int | None
    ) -> None:
        """Takes the values of users and items, None for a side that has no tokens."""
        n_rows = {side: 0 if found is None else len(found.names) + 1 for side, found in values.items()}
        super().__init__(
            n_user_rows=n_rows["user"], n_item_rows=n_rows["item"], n_tokens=n_tokens, hidden_size=hidden_size
        )
        self._values = dict(values)
        for side, found in values.items():
            numbers = torch.zeros(0, 0, dtype=torch.int64) if found is None else torch.from_numpy(found.numbers)
            # Not saved: the data gives them.
            self.register_buffer(f"{side}_values", numbers, persistent=False)

    def describe(self) -> EncoderFacts:
        """Returns how many values each attribute has, and who has none."""
        facts, notes = {}, []
        for side, found in self._values.items():
            if found is None:
                continue
            n_none = int((found.numbers[1:] == 0).all(axis=1).sum())
            facts[f"{side}_values"] = len(found.names)
            if n_none:
                notes.append(f"{n_none:,} {side}s have no value of {found.column}; they share one token.")
        return EncoderFacts(facts=facts, notes=tuple(notes))

    def _rows(self, side: Side, table: Tensor, ids: Tensor) -> Tensor:
        """Returns the mean token of each id's values, [batch, n_tokens, hidden_size]."""
        if not table.shape[0]:
            return table.new_zeros((len(ids), 0, table.shape[2]))
        numbers = getattr(self, f"{side}_values")[ids]
        given = numbers > 0
        weights = given / given.sum(dim=1, keepdim=True).clamp_min(1)
        mean = torch.einsum("bv,bvth->bth", weights.to(table.dtype), table[numbers])
        return torch.where(given.any(dim=1)[:, None, None], mean, table[0])


@dataclass(frozen=True)
class AttributeValues:
    """The values of one attribute.

    Attributes:
        column: Name of the attribute.
        names: Distinct values as text, sorted.
        numbers: int64 [n_ids, width] places in `names` plus 1 of each id's values, 0 = none.
    """

    column: str
    names: tuple[str, ...]
    numbers: np.ndarray[Any, Any]


def attribute_values(table: pl.DataFrame | None, column: str, *, field: str) -> AttributeValues:
    """Returns the values of an attribute.

    Args:
        table: Attributes by dense id, row 0 = none; None where the dataset has none.
        column: Which of them: text, whole numbers, booleans, or lists of these.
        field: Field of the settings that names it, for messages.

    Raises:
        DataError: If there is no such attribute, its values are not categories, or no id has one.
    """
    columns = () if table is None else tuple(table.columns)
    if table is None or column not in columns:
        close = difflib.get_close_matches(column, columns, n=1)
        hint = f" (did you mean '{close[0]}'?)" if close else ""
        side = field.rpartition(".")[2]
        raise DataError(
            f"{field}: the dataset gives no attribute '{column}' of {side}s{hint}, but {', '.join(columns) or 'none'}; "
            f"list it in dataset.{side}_attributes: [{column}]"
        )
    series = table[column]
    inner = series.dtype.inner if isinstance(series.dtype, pl.List) else series.dtype
    if inner.is_float() or inner.is_nested():
        raise DataError(f"{field}: attribute '{column}' holds {inner}; categories are text, whole numbers or booleans")
    rows = series.to_list() if isinstance(series.dtype, pl.List) else [[each] for each in series.to_list()]
    texts = [[str(each) for each in row or () if each is not None] for row in rows]
    names = tuple(sorted({text for row in texts for text in row}))
    if not names:
        raise DataError(f"{field}: no id has a value of attribute '{column}'")
    place = {name: number for number, name in enumerate(names, start=1)}
    numbers = np.zeros((len(texts), max(map(len, texts))), dtype=np.int64)
    for row, values in enumerate(texts):
        numbers[row, : len(set(values))] = sorted({place[value] for value in values})
    return AttributeValues(column, names, numbers)


def build_attribute_tokens(
    config: AttributeTokensConfig,
    *,
    data: EncoderData,
    context: BuildContext,  # noqa: ARG001
) -> AttributeTokens:
    """Builds `attribute-tokens` (contract: `collm.contracts.encoder.Encoder`).

    Raises:
        DataError: If the dataset lacks an attribute.
    """
    given: dict[Side, tuple[pl.DataFrame | None, str | None]] = {
        "user": (data.user_attributes, config.user),
        "item": (data.item_attributes, config.item),
    }
    values: dict[Side, AttributeValues | None] = {
        side: None if column is None else attribute_values(table, column, field=f"{config.name}.{side}")
        for side, (table, column) in given.items()
    }
    return AttributeTokens(values, n_tokens=config.n_tokens, hidden_size=config.hidden_size)


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
