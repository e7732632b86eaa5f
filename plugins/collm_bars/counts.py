"""Positive rates and row counts per user and item, in a form that a training row's own label does not enter."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from collm.contracts.encoder import EncoderData, TrainRows
from collm.errors import DataError

FEATURES = ("user_rate", "user_rows", "item_rate", "item_rows")


class CountTables(nn.Module):
    """Training positives and rows per id; buffers, so that they are saved with the encoder."""

    user_positives: Tensor
    user_rows: Tensor
    item_positives: Tensor
    item_rows: Tensor
    base_rate: Tensor

    def __init__(self, n_users: int, n_items: int) -> None:
        """Makes empty tables for ids 0..n_users and 0..n_items, float64."""
        super().__init__()
        for name, n_ids in (("user", n_users + 1), ("item", n_items + 1)):
            self.register_buffer(f"{name}_positives", torch.zeros(n_ids, dtype=torch.float64))
            self.register_buffer(f"{name}_rows", torch.zeros(n_ids, dtype=torch.float64))
        self.register_buffer("base_rate", torch.tensor(0.5, dtype=torch.float64))

    def count(self, train: TrainRows, keep: np.ndarray[Any, Any] | None = None) -> None:
        """Fills the tables.

        Args:
            train: Training rows.
            keep: bool [n_rows], the rows that count; None = all. The base rate is that of all rows in any case.

        Raises:
            DataError: If the rows are not of both classes.
        """
        positives = int((train.label > 0).sum())
        if not 0 < positives < train.label.size:
            raise DataError(
                f"counts: {positives} of {train.label.size} training rows are positive; "
                "a rate needs rows of both classes"
            )
        keep = np.ones(train.label.size, dtype=bool) if keep is None else keep
        label = (train.label[keep] > 0).astype(np.float64)
        for name, ids in (("user", train.user[keep]), ("item", train.item[keep])):
            rows: Tensor = getattr(self, f"{name}_rows")
            liked: Tensor = getattr(self, f"{name}_positives")
            rows.copy_(torch.from_numpy(np.bincount(ids, minlength=rows.numel())))
            liked.copy_(torch.from_numpy(np.bincount(ids, weights=label, minlength=rows.numel())))
        self.base_rate.fill_(positives / train.label.size)

    def features(self, user: Tensor, item: Tensor, *, user_prior: float, item_prior: float) -> Tensor:
        """Returns smoothed rates, (positives + prior * base rate) / (rows + prior), and row counts.

        Args:
            user: int64 [batch]; an id without rows gets the base rate.
            item: int64 [batch].
            user_prior: Rows added to each user.
            item_prior: Rows added to each item.

        Returns:
            float64 [batch, 4], columns as in `FEATURES`.
        """
        user_rate = (self.user_positives + user_prior * self.base_rate) / (self.user_rows + user_prior)
        item_rate = (self.item_positives + item_prior * self.base_rate) / (self.item_rows + item_prior)
        return torch.stack([user_rate[user], self.user_rows[user], item_rate[item], self.item_rows[item]], dim=1)


def out_of_fold_features(data: EncoderData, *, user_prior: float, item_prior: float, n_folds: int, seed: int) -> Tensor:
    """Returns the features of the training rows, each counted without the rows of its own fold.

    Args:
        data: Training rows and sizes.
        user_prior: Rows added to each user.
        item_prior: Rows added to each item.
        n_folds: How many folds.
        seed: Decides the folds.

    Returns:
        float64 [n_rows, 4], columns as in `FEATURES`.

    Raises:
        DataError: If the rows are not of both classes.
    """
    train = data.train
    fold = np.random.default_rng(seed).permutation(train.label.size) % n_folds
    user, item = torch.from_numpy(train.user), torch.from_numpy(train.item)
    tables = CountTables(data.n_users, data.n_items)
    result = torch.zeros(train.label.size, len(FEATURES), dtype=torch.float64)
    for number in range(n_folds):
        tables.count(train, keep=fold != number)
        inside = torch.from_numpy(fold == number)
        result[inside] = tables.features(user[inside], item[inside], user_prior=user_prior, item_prior=item_prior)
    return result
