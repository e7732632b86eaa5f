"""The floors: log-odds tables by item and user, solved directly from the training rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from collm.component import BuildContext
from collm.contracts.encoder import EncoderBatch, EncoderData, EncoderFacts, FitMode, TrainRows
from collm.errors import DataError
from collm.model.encoder import EncoderModule
from collm_floors.config import (
    BiasLogisticConfig,
    ItemMeanConfig,
    ItemUserMeanConfig,
    PopularityConfig,
    RecentPopularityConfig,
)

Floats = NDArray[np.float64]


class LogOddsTable(EncoderModule):
    """Logit = intercept + user's log-odds + item's log-odds; entries of ids without training rows are 0."""

    fit_mode: FitMode = "direct"
    intercept: torch.Tensor
    user_logit: torch.Tensor
    item_logit: torch.Tensor

    def __init__(self, n_users: int, n_items: int) -> None:
        super().__init__()
        self.register_buffer("intercept", torch.zeros(()))
        self.register_buffer("user_logit", torch.zeros(n_users + 1))
        self.register_buffer("item_logit", torch.zeros(n_items + 1))

    def score(self, batch: EncoderBatch) -> torch.Tensor:
        """Returns logits, float32 [batch]."""
        return self.intercept + self.user_logit[batch.user] + self.item_logit[batch.item]

    def factors(self, batch: EncoderBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns [user's log-odds, 1] and [1, item's log-odds]."""
        user = self.intercept + self.user_logit[batch.user]
        users = torch.stack([user, torch.ones_like(user)], dim=1)
        return users, torch.stack([torch.ones_like(self.item_logit), self.item_logit], dim=1)

    def fit_direct(self, data: EncoderData, batches: Iterator[EncoderBatch]) -> None:
        """Solves the tables from `data.train`; `batches` is not read.

        Raises:
            DataError: If there are no training rows.
        """
        del batches
        if len(data.train.label) == 0:
            raise DataError("floor: there are no training rows; check dataset.limit.train and the split")
        intercept, user_logit, item_logit = self.solve(data.train)
        self.intercept.fill_(intercept)
        self.user_logit.copy_(torch.from_numpy(user_logit))
        self.item_logit.copy_(torch.from_numpy(item_logit))

    def solve(self, train: TrainRows) -> tuple[float, Floats, Floats]:
        """Returns intercept, float64 [n_users + 1] and float64 [n_items + 1]; index 0 = padding."""
        raise NotImplementedError


class ItemMean(LogOddsTable):
    """Log-odds of (positives + m g) / (rows + m), g = global share of positives."""

    def __init__(self, n_users: int, n_items: int, *, smoothing: float) -> None:
        super().__init__(n_users, n_items)
        self._smoothing = smoothing

    def solve(self, train: TrainRows) -> tuple[float, Floats, Floats]:
        """Returns the item table; users are all 0."""
        share = global_share(train.label)
        items = relative_log_odds(train.item, train.label, len(self.item_logit), smoothing=self._smoothing)
        return log_odds(share), np.zeros(len(self.user_logit)), items


class ItemUserMean(LogOddsTable):
    """Sum of the smoothed log-odds of item and user, minus those of the global share, which is in both."""

    def __init__(self, n_users: int, n_items: int, *, item_smoothing: float, user_smoothing: float) -> None:
        super().__init__(n_users, n_items)
        self._item_smoothing, self._user_smoothing = item_smoothing, user_smoothing

    def solve(self, train: TrainRows) -> tuple[float, Floats, Floats]:
        """Returns both tables."""
        share = global_share(train.label)
        users = relative_log_odds(train.user, train.label, len(self.user_logit), smoothing=self._user_smoothing)
        items = relative_log_odds(train.item, train.label, len(self.item_logit), smoothing=self._item_smoothing)
        return log_odds(share), users, items


class BiasLogistic(LogOddsTable):
    """Logistic regression on one-hot user and item; with one class in training, the intercept alone."""

    def __init__(self, n_users: int, n_items: int, *, inverse_l2: float, max_iterations: int) -> None:
        super().__init__(n_users, n_items)
        self._inverse_l2, self._max_iterations = inverse_l2, max_iterations

    def solve(self, train: TrainRows) -> tuple[float, Floats, Floats]:
        """Returns both tables. Unseen ids have no column entry, so L2 leaves them at exactly 0."""
        n_users, n_items = len(self.user_logit), len(self.item_logit)
        if train.label.min() == train.label.max():
            return log_odds(global_share(train.label)), np.zeros(n_users), np.zeros(n_items)
        n_rows = len(train.label)
        columns = np.stack([train.user, train.item + n_users], axis=1).ravel()
        one_hot = csr_matrix(
            (np.ones(2 * n_rows), columns, np.arange(0, 2 * n_rows + 1, 2)), shape=(n_rows, n_users + n_items)
        )
        model = LogisticRegression(C=self._inverse_l2, max_iter=self._max_iterations)
        model.fit(one_hot, train.label)
        weights: Floats = model.coef_[0]
        return float(model.intercept_[0]), weights[:n_users], weights[n_users:]


class Popularity(LogOddsTable):
    """Logit = log(1 + positives of the item) - log(1 + those of the most popular one): an order, not a probability.

    With a half-life a positive of training counts 2 ** -(positives after it / half-life), half-life as a share of all
    of them: time is measured in interactions, so that it works for data without dates.
    """

    def __init__(self, n_users: int, n_items: int, *, half_life: float | None) -> None:
        super().__init__(n_users, n_items)
        self._half_life = half_life

    def solve(self, train: TrainRows) -> tuple[float, Floats, Floats]:
        """Returns the item table; the intercept makes the largest logit 0."""
        order = np.lexsort((train.row, train.timestamp))
        items = train.item[order][train.label[order] > 0]
        weight = np.ones(len(items))
        if self._half_life is not None and len(items):
            weight = 0.5 ** (np.arange(len(items))[::-1] / (self._half_life * len(items)))
        counts = np.log1p(np.bincount(items, weights=weight, minlength=len(self.item_logit)))
        return -float(counts.max()), np.zeros(len(self.user_logit)), counts

    def describe(self) -> EncoderFacts:
        """Says that the scores are not probabilities."""
        return EncoderFacts(score_notes=("popularity orders items; its scores are not probabilities",))


def global_share(label: NDArray[Any]) -> float:
    """Share of positives, kept half a row away from 0 and 1 so that its log-odds are finite.

    Args:
        label: [n_rows] of 0 and 1, at least one row.
    """
    half_row = 0.5 / len(label)
    return float(np.clip(label.mean(), half_row, 1 - half_row))


def log_odds(probability: float) -> float:
    """log(p / (1 - p)) of a probability in (0, 1)."""
    return float(np.log(probability) - np.log1p(-probability))


def relative_log_odds(ids: NDArray[Any], label: NDArray[Any], size: int, *, smoothing: float) -> Floats:
    """Smoothed log-odds of each id minus those of the global share, so that an unseen id has 0.

    Args:
        ids: int64 [n_rows], below `size`.
        label: [n_rows] of 0 and 1.
        size: Entries of the result.
        smoothing: Rows of the global share added to each id's rows.

    Returns:
        float64 [size].
    """
    share = global_share(label)
    n_rows = np.bincount(ids, minlength=size)
    positives = np.bincount(ids, weights=label, minlength=size)
    rate = (positives + smoothing * share) / (n_rows + smoothing)
    # Rounding alone would leave unseen ids a hair away from 0.
    relative: Floats = np.where(n_rows > 0, np.log(rate) - np.log1p(-rate) - log_odds(share), 0.0)
    return relative


def build_item_mean(config: ItemMeanConfig, *, data: EncoderData, context: BuildContext) -> ItemMean:
    """Builds `item-mean`."""
    del context
    return ItemMean(data.n_users, data.n_items, smoothing=config.smoothing)


def build_item_user_mean(config: ItemUserMeanConfig, *, data: EncoderData, context: BuildContext) -> ItemUserMean:
    """Builds `item-user-mean`."""
    del context
    return ItemUserMean(
        data.n_users, data.n_items, item_smoothing=config.item_smoothing, user_smoothing=config.user_smoothing
    )


def build_bias_logistic(config: BiasLogisticConfig, *, data: EncoderData, context: BuildContext) -> BiasLogistic:
    """Builds `bias-logistic`."""
    del context
    return BiasLogistic(data.n_users, data.n_items, inverse_l2=config.inverse_l2, max_iterations=config.max_iterations)


def build_popularity(
    config: PopularityConfig | RecentPopularityConfig, *, data: EncoderData, context: BuildContext
) -> Popularity:
    """Builds `popularity` and `recent-popularity`."""
    del context
    return Popularity(data.n_users, data.n_items, half_life=getattr(config, "half_life", None))
