"""Fits the library's model once and keeps its two tables as buffers; nothing trains by gradient."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from collm.component import BuildContext
from collm.contracts.encoder import EncodedPair, EncoderBatch, EncoderData
from collm.errors import DataError
from collm.model.encoder import EncoderModule
from implicit.cpu.als import AlternatingLeastSquares
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch import Tensor

from collm_implicit.config import ImplicitAlsConfig

MIN_SLOPE = 1e-6


class ImplicitAls(EncoderModule):
    """Logit = offset + slope * <user vector, item vector>, the vectors by alternating least squares.

    Ranking is the library's; slope and offset of a logistic regression on the training rows turn it into a logit. Ids
    without a training row, and padding, have a vector of zeros.
    """

    gives = frozenset({"scores", "vectors"})
    fit_mode = "direct"
    users: Tensor
    items: Tensor
    slope: Tensor
    offset: Tensor

    def __init__(self, data: EncoderData, config: ImplicitAlsConfig) -> None:
        """Makes empty tables; the seed of the fit is drawn from torch's global generator."""
        super().__init__()
        self._config = config
        self._seed = int(torch.randint(2**31 - 1, ()))
        self.user_dim = self.item_dim = config.embedding_size
        self.register_buffer("users", torch.zeros(data.n_users + 1, config.embedding_size))
        self.register_buffer("items", torch.zeros(data.n_items + 1, config.embedding_size))
        self.register_buffer("slope", torch.ones(()))
        self.register_buffer("offset", torch.zeros(()))

    def fit_direct(self, data: EncoderData, batches: Iterator[EncoderBatch]) -> None:
        """Fits the vectors, then slope and offset.

        Args:
            data: Gives the training rows.
            batches: Not read: the rows are all in `data`.

        Raises:
            DataError: If the training rows are not of both classes.
        """
        train = data.train
        liked = train.label > 0
        if liked.all() or not liked.any():
            raise DataError(
                f"implicit-als: {int(liked.sum())} of {liked.size} training rows are positive; "
                "rows of both classes are needed"
            )
        # The library reads a negative confidence as a preference of 0 held with that confidence.
        sign = np.where(liked, 1.0, -1.0).astype(np.float32)
        rows = sparse.csr_matrix((sign, (train.user, train.item)), shape=(len(self.users), len(self.items)))
        rows.data = np.sign(rows.data)  # a pair counts once, by the majority of its rows
        rows.eliminate_zeros()
        config = self._config
        model = AlternatingLeastSquares(
            factors=config.embedding_size,
            regularization=config.regularization,
            alpha=config.confidence,
            iterations=config.iterations,
            random_state=self._seed,
        )
        # Its own threads and those of the matrix library would fight over the cores.
        with threadpool_limits(1, "blas"):
            model.fit(rows, show_progress=False)
        self.users.copy_(torch.from_numpy(np.asarray(model.user_factors)))
        self.items.copy_(torch.from_numpy(np.asarray(model.item_factors)))
        self._calibrate(train.user, train.item, liked)

    def score(self, batch: EncoderBatch) -> Tensor:
        """Returns logits, float32 [batch]."""
        return self.offset + self.slope * (self.users[batch.user] * self.items[batch.item]).sum(dim=1)

    def encode(self, batch: EncoderBatch) -> EncodedPair:
        """Returns the vectors, float32 [batch, embedding_size] each."""
        return EncodedPair(user=self.users[batch.user], item=self.items[batch.item])

    def _calibrate(self, user: np.ndarray, item: np.ndarray, liked: np.ndarray) -> None:
        match = (self.users[torch.from_numpy(user)] * self.items[torch.from_numpy(item)]).sum(dim=1)
        model = LogisticRegression().fit(match.cpu().numpy()[:, None], liked)
        self.slope.fill_(max(float(model.coef_[0, 0]), MIN_SLOPE))
        self.offset.fill_(float(model.intercept_[0]))


def build(config: ImplicitAlsConfig, *, data: EncoderData, context: BuildContext) -> ImplicitAls:
    """Builds the encoder."""
    del context
    return ImplicitAls(data, config)
