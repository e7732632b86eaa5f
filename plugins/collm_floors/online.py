"""Floors of what sees the past: log-odds from all labels strictly earlier than a row."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from collm.component import BuildContext
from collm.contracts.encoder import EncoderBatch, EncoderData, FitMode
from collm.errors import DataError
from collm.model.earlier_logits import relative_logit
from collm.model.encoder import EncoderModule
from collm_floors.config import OnlineUserItemConfig, RecentLogisticConfig
from collm_floors.encoders import global_share, log_odds

WEAK_PENALTY = 100.0  # scikit-learn's C; a few weights from thousands of rows need no more


class OnlineUserItem(EncoderModule):
    """Log-odds of user and item from all strictly earlier labels, weighted by a logistic regression.

    logit = b + w_u R(user) + w_i R(item), R of (positives + m g) / (rows + m) with the counts before the row, relative
    to the log-odds of g, the share of positives in training. The weights are fitted on training rows, whose counts are
    as much of the past as those of any other row.
    """

    fit_mode: FitMode = "direct"
    reads_earlier_labels = True
    share: torch.Tensor
    weights: torch.Tensor

    def __init__(self, config: OnlineUserItemConfig) -> None:
        super().__init__()
        self.name = config.name
        self._smoothing = (config.user_smoothing, config.item_smoothing)
        self.register_buffer("share", torch.tensor(0.5))
        self.register_buffer("weights", self._start(0.0))

    def score(self, batch: EncoderBatch) -> torch.Tensor:
        """Returns logits, float32 [batch].

        Raises:
            DataError: If the batch lacks the counts of earlier labels.
        """
        return self.weights[0] + self.features(batch) @ self.weights[1:]

    def fit_direct(self, data: EncoderData, batches: Iterator[EncoderBatch]) -> None:
        """Sets the global share and fits the weights; with one class in training, those of the counts stay 1.

        Raises:
            DataError: If there are no training rows.
        """
        label = data.train.label
        if len(label) == 0:
            raise DataError("floor: there are no training rows; check dataset.limit.train and the split")
        share = global_share(label)
        self.share.fill_(share)
        self.weights.copy_(self._start(log_odds(share)))
        if label.min() == label.max():
            return
        found = [(self.features(batch).numpy(), batch.label) for batch in batches]
        features = np.concatenate([part for part, _ in found])
        labels = np.concatenate([part.numpy() for _, part in found if part is not None])
        model = LogisticRegression(C=WEAK_PENALTY).fit(features, labels)
        self.weights.copy_(torch.tensor([model.intercept_[0], *model.coef_[0]]))

    def features(self, batch: EncoderBatch) -> torch.Tensor:
        """Returns what the logistic regression weighs, float32 [batch, 2]: the log-odds of user and item."""
        if batch.earlier is None:
            raise DataError(f"{self.name}: the batch has no counts of earlier labels (EncoderBatch.earlier)")
        sides = [
            relative_logit(batch.earlier[:, 2 * side], batch.earlier[:, 2 * side + 1], self.share, smoothing)
            for side, smoothing in enumerate(self._smoothing)
        ]
        return torch.stack(sides, dim=1)

    def _start(self, intercept: float) -> torch.Tensor:
        """Returns the weights before any fit: intercept, user, item."""
        return torch.tensor([intercept, 1.0, 1.0])


class RecentLogistic(OnlineUserItem):
    """The same with a third number: the log-odds of the user's latest labels.

    A label k rows of the user back has weight 0.5 ** (k / half-life): 0.9 for each row at the default half-life.
    """

    def __init__(self, config: RecentLogisticConfig) -> None:
        super().__init__(config)
        self.half_lives = (config.half_life,)
        self._recent_smoothing = config.recent_smoothing

    def features(self, batch: EncoderBatch) -> torch.Tensor:
        """Returns float32 [batch, 3]: the log-odds of user and item, and those of the user's latest labels."""
        counts = super().features(batch)
        if batch.recent is None:
            raise DataError(f"{self.name}: the batch has no recent labels (EncoderBatch.recent)")
        positives, rows = batch.recent[:, 0, 0].unbind(1)
        latest = relative_logit(positives, rows, self.share, self._recent_smoothing)
        return torch.cat([counts, latest[:, None]], dim=1)

    def _start(self, intercept: float) -> torch.Tensor:
        """Returns the weights before any fit: intercept, user, item, latest labels."""
        return torch.tensor([intercept, 1.0, 1.0, 0.0])


def build_online_user_item(config: OnlineUserItemConfig, *, data: EncoderData, context: BuildContext) -> OnlineUserItem:
    """Builds `online-user-item`."""
    del data, context
    return OnlineUserItem(config)


def build_recent_logistic(config: RecentLogisticConfig, *, data: EncoderData, context: BuildContext) -> RecentLogistic:
    """Builds `recent-logistic`."""
    del data, context
    return RecentLogistic(config)
