"""Item-based neighbours: how much the target resembles what the user liked before."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from collm.component import BuildContext
from collm.contracts.encoder import EncoderBatch, EncoderData
from collm.errors import DataError
from collm.model.encoder import EncoderModule
from collm_bars.config import ItemKNNConfig

BLOCK_ENTRIES = 1 << 25  # similarities held densely at a time: 128 MB
COMPARED_ENTRIES = 1 << 24  # (neighbour, history item) pairs compared at a time
MIN_SLOPE = 1e-6


class ItemKNN(EncoderModule):
    """Sum of the target's cosine similarities to the items of the history.

    Rows are ranked by that sum; slope and offset of a logistic regression on the training rows turn it into a logit. A
    training row's own co-occurrences are among the neighbours, so the slope is too steep for other rows: the ranking is
    untouched, log loss and accuracy are not calibrated.
    """

    gives = frozenset({"scores"})
    fit_mode = "direct"
    neighbour: Tensor
    similarity: Tensor
    slope: Tensor
    offset: Tensor

    def __init__(self, data: EncoderData, *, n_neighbours: int, shrinkage: float, profile_items: int) -> None:
        """Makes empty neighbour lists.

        Args:
            data: Sizes.
            n_neighbours: Neighbours kept per item.
            shrinkage: Added to the cosine's denominator.
            profile_items: History items compared at most.
        """
        super().__init__()
        self.history_items = profile_items
        self.shrinkage = shrinkage
        self._by_neighbour: tuple[int, sparse.csr_matrix] | None = None
        shape = (data.n_items + 1, n_neighbours)
        self.register_buffer("neighbour", torch.zeros(shape, dtype=torch.int32))
        self.register_buffer("similarity", torch.zeros(shape))
        self.register_buffer("slope", torch.ones(()))
        self.register_buffer("offset", torch.zeros(()))

    def fit_direct(self, data: EncoderData, batches: Iterator[EncoderBatch]) -> None:
        """Finds the neighbours, then the slope and offset on the rows of `batches`.

        Raises:
            DataError: If the rows are not of both classes.
        """
        label = data.train.label > 0
        if label.all() or not label.any():
            raise DataError(
                f"item-knn: {int(label.sum())} of {label.size} training rows are positive; "
                "rows of both classes are needed"
            )
        self._find_neighbours(data)
        total, target = [], []
        for batch in batches:
            if batch.label is None:
                raise DataError("item-knn: a training batch has no labels")
            total.append(self.resemblance(batch).cpu().numpy())
            target.append(batch.label.cpu().numpy())
        model = LogisticRegression().fit(np.concatenate(total)[:, None], np.concatenate(target) > 0)
        self.slope.fill_(max(float(model.coef_[0, 0]), MIN_SLOPE))
        self.offset.fill_(float(model.intercept_[0]))

    def resemblance(self, batch: EncoderBatch) -> Tensor:
        """Returns the sum of similarities between target and history, float32 [batch].

        Raises:
            DataError: If the batch carries no history.
        """
        if batch.history is None:
            raise DataError("item-knn: the batch carries no history; rows for this encoder need `history`")
        history = batch.history[:, -self.history_items :]
        rows = max(1, COMPARED_ENTRIES // max(1, self.neighbour.shape[1] * history.shape[1]))
        parts = [
            self._sum_of_matches(item, liked)
            for item, liked in zip(torch.split(batch.item, rows), torch.split(history, rows), strict=True)
        ]
        return torch.cat(parts) if parts else self.similarity.new_zeros(0)

    def score(self, batch: EncoderBatch) -> Tensor:
        """Returns logits, float32 [batch]."""
        return self.slope * self.resemblance(batch) + self.offset

    def score_all(self, batch: EncoderBatch) -> Tensor:
        """Returns logits of all items, float32 [batch, n_items + 1], by a product of sparse matrices.

        Raises:
            DataError: If the batch carries no history.
        """
        if batch.history is None:
            raise DataError("item-knn: the batch carries no history; rows for this encoder need `history`")
        history = batch.history[:, -self.history_items :].cpu().numpy()
        n_rows, n_items = len(history), len(self.neighbour)
        rows, columns = np.nonzero(history)
        liked = sparse.csr_matrix((np.ones(len(rows)), (rows, history[rows, columns])), shape=(n_rows, n_items))
        total = torch.from_numpy((liked @ self._targets()).toarray().astype(np.float32))
        return self.slope * total.to(batch.item.device) + self.offset

    def _targets(self) -> sparse.csr_matrix:
        """Returns float32 [n_items + 1, n_items + 1]: similarities of targets (columns) to their neighbours."""
        if self._by_neighbour is None or self._by_neighbour[0] != self.neighbour._version:
            kept, neighbour = self.similarity.cpu().numpy(), self.neighbour.cpu().numpy()
            target = np.repeat(np.arange(len(kept)), kept.shape[1])
            entries = (kept.ravel(), (neighbour.ravel(), target))
            found = sparse.csr_matrix(entries, shape=(len(kept), len(kept)))
            self._by_neighbour = self.neighbour._version, found
        return self._by_neighbour[1]

    def _sum_of_matches(self, item: Tensor, history: Tensor) -> Tensor:
        """Returns float32 [rows]; padding (id 0) adds 0."""
        matches = self.neighbour[item].unsqueeze(2) == history.unsqueeze(1)  # [rows, neighbours, history]
        return (matches.sum(dim=2) * self.similarity[item]).sum(dim=1)

    def _find_neighbours(self, data: EncoderData) -> None:
        """Fills the neighbour lists from positive pairs, block by block of items."""
        positive = data.train.label > 0
        shape = (data.n_users + 1, data.n_items + 1)
        pairs = (np.ones(int(positive.sum()), dtype=np.float32), (data.train.user[positive], data.train.item[positive]))
        liked = sparse.csr_matrix(pairs, shape=shape)
        liked.data[:] = 1  # a pair counts once
        by_item = liked.T.tocsr()
        norm = np.sqrt(np.diff(by_item.indptr)).astype(np.float32)
        kept = min(self.neighbour.shape[1], shape[1])
        block = max(1, BLOCK_ENTRIES // shape[1])
        for start in range(0, shape[1], block):
            rows = np.arange(start, min(start + block, shape[1]))
            together = (by_item[rows] @ liked).toarray()
            cosine = together / np.maximum(norm[rows, None] * norm[None, :] + self.shrinkage, 1e-12)
            cosine[np.arange(len(rows)), rows] = 0  # an item is not a neighbour of itself
            best = np.argpartition(-cosine, kept - 1, axis=1)[:, :kept]
            self.neighbour[rows, :kept] = torch.from_numpy(best.astype(np.int32))
            self.similarity[rows, :kept] = torch.from_numpy(np.take_along_axis(cosine, best, axis=1))


def build(config: ItemKNNConfig, *, data: EncoderData, context: BuildContext) -> ItemKNN:  # noqa: ARG001
    """Builds `item-knn` (contract: `collm.contracts.encoder.Encoder`)."""
    return ItemKNN(data, **config.model_dump(exclude={"name"}))
