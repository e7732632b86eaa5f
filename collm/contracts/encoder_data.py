"""What an encoder is given, and the vectors that it gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import torch


@dataclass(frozen=True)
class EncoderBatch:
    """Rows to score or encode.

    Attributes:
        user: int64 [batch]; 0 = padding or unknown.
        item: int64 [batch]; 0 = padding or unknown.
        label: float32 [batch] of 0 and 1; None where unknown.
        history: int64 [batch, length] item ids of earlier positives, oldest first, left-padded with 0; None unless the
            component `needs` history. Length 0 is possible.
        earlier: float32 [batch, 4] of labels strictly earlier in time: positives and rows of the user, positives and
            rows of the item; None unless the encoder `reads_earlier_labels`.
        recent: float32 [batch, 2, n_half_lives, 2] of the same labels of user and item, for each of the encoder's
            `half_lives`: positives and rows, each with weight 0.5 ** (later rows of the same id / half-life); None
            unless the encoder has half-lives.
        days_since: float32 [batch, 2] whole days since the last earlier label of user and item, -1 where there is
            none; None unless the encoder has half-lives.
        timestamp: int64 [batch] seconds since 1970 UTC of the rows; None unless the encoder `reads_time`. A pair
            asked without a time has the second after the last interaction; an item of the history, encoded alone, 0.
    """

    user: torch.Tensor
    item: torch.Tensor
    label: torch.Tensor | None = None
    history: torch.Tensor | None = None
    earlier: torch.Tensor | None = None
    timestamp: torch.Tensor | None = None
    recent: torch.Tensor | None = None
    days_since: torch.Tensor | None = None


@dataclass(frozen=True)
class TrainRows:
    """The training rows as arrays, each of length n_rows, in source order.

    Attributes:
        user: int64 dense ids.
        item: int64 dense ids.
        label: int8.
        timestamp: int64 seconds.
        row: int64 source rows.
        rating: float32, NaN where a row has none; None where the data was made without ratings.
    """

    user: np.ndarray[Any, Any]
    item: np.ndarray[Any, Any]
    label: np.ndarray[Any, Any]
    timestamp: np.ndarray[Any, Any]
    row: np.ndarray[Any, Any]
    rating: np.ndarray[Any, Any] | None = None


@dataclass(frozen=True)
class UnlabelledRows:
    """Rows without their labels as arrays, each of length n_rows, in source order.

    Attributes:
        user: int64 dense ids.
        item: int64 dense ids.
    """

    user: np.ndarray[Any, Any]
    item: np.ndarray[Any, Any]


@dataclass(frozen=True)
class EncoderData:
    """What an encoder may see when it is built.

    The fields after `history_items` have defaults: data made by older code lacks them.

    Attributes:
        n_users: Users without padding; ids run 1..n_users.
        n_items: Items without padding.
        titles: Item titles by dense id, index 0 = "".
        train: Training rows.
        history_items: Items per history at most (`history.max_items`), unless the encoder asks for another length.
        user_ids: Raw user ids as text by dense id, index 0 = ""; empty where they are not known.
        item_ids: Raw item ids as text by dense id, index 0 = ""; empty where they are not known.
        user_attributes: What the dataset says of users: one row per dense id, row 0 and missing values null; None where
            it says nothing.
        item_attributes: The same of items.
        valid: The validation rows without labels; None where they are not known. A model that uses them knows which
            pairs will be asked.
    """

    n_users: int
    n_items: int
    titles: Sequence[str]
    train: TrainRows
    history_items: int
    user_ids: Sequence[str] = ()
    item_ids: Sequence[str] = ()
    user_attributes: pl.DataFrame | None = None
    item_attributes: pl.DataFrame | None = None
    valid: UnlabelledRows | None = None


@dataclass(frozen=True)
class EncodedPair:
    """Vectors of a batch.

    Attributes:
        user: float [batch, d_u] for `vectors`, [batch, k_u, d_u] where a slot takes several; [batch, n_tokens, hidden]
            for `llm-tokens`.
        item: The same shapes for the item.
        context: The same shapes for the situation (time of day, place); None where the encoder gives none.
    """

    user: torch.Tensor
    item: torch.Tensor
    context: torch.Tensor | None = None
