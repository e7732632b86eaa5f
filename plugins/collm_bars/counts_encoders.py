"""The two models on counts as encoders that are solved, not trained."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from collm.component import BuildContext
from collm.contracts.encoder import EncoderBatch, EncoderData
from collm.errors import DataError
from collm.model.encoder import EncoderModule
from collm_bars.config import CountsGBDTConfig, CountsLogisticConfig
from collm_bars.counts import CountTables, out_of_fold_features
from collm_bars.trees import TreeArrays


class CountsEncoder(EncoderModule):
    """Scores from the rates and row counts of user and item."""

    gives = frozenset({"scores"})
    fit_mode = "direct"

    def __init__(self, data: EncoderData, *, user_prior: float, item_prior: float, n_folds: int) -> None:
        """Makes empty tables.

        Args:
            data: Sizes.
            user_prior: Rows at the base rate added to each user.
            item_prior: Rows at the base rate added to each item.
            n_folds: Folds of the training features.
        """
        super().__init__()
        self.tables = CountTables(data.n_users, data.n_items)
        self.user_prior, self.item_prior, self.n_folds = user_prior, item_prior, n_folds
        self._fold_seed = int(torch.randint(2**31, ()))  # follows the run's seed

    def features(self, batch: EncoderBatch) -> Tensor:
        """Returns the features of rows by all training rows, float64 [batch, 4]."""
        return self.tables.features(batch.user, batch.item, user_prior=self.user_prior, item_prior=self.item_prior)

    def training_features(self, data: EncoderData) -> Tensor:
        """Returns the out-of-fold features of the training rows, float64 [n_rows, 4], and fills the tables."""
        features = out_of_fold_features(
            data, user_prior=self.user_prior, item_prior=self.item_prior, n_folds=self.n_folds, seed=self._fold_seed
        )
        self.tables.count(data.train)
        return features


class CountsGBDT(CountsEncoder):
    """scikit-learn's HistGradientBoosting on the four features."""

    def __init__(
        self,
        data: EncoderData,
        *,
        n_trees: int,
        learning_rate: float,
        max_leaves: int,
        min_leaf_rows: int,
        user_prior: float,
        item_prior: float,
        n_folds: int,
    ) -> None:
        """Makes empty tables and trees.

        Args:
            data: Sizes.
            n_trees: Boosting rounds.
            learning_rate: Weight of one tree.
            max_leaves: Leaves per tree at most.
            min_leaf_rows: Training rows per leaf at least.
            user_prior: Rows at the base rate added to each user.
            item_prior: Rows at the base rate added to each item.
            n_folds: Folds of the training features.
        """
        super().__init__(data, user_prior=user_prior, item_prior=item_prior, n_folds=n_folds)
        self.trees = TreeArrays(n_trees, max_leaves)
        self._model = HistGradientBoostingClassifier(
            max_iter=n_trees,
            learning_rate=learning_rate,
            max_leaf_nodes=max_leaves,
            min_samples_leaf=min_leaf_rows,
            early_stopping=False,
            random_state=0,
        )

    def fit_direct(self, data: EncoderData, batches: Iterator[EncoderBatch]) -> None:
        """Grows the trees on the training rows; `batches` is not read.

        Raises:
            DataError: If the rows are not of both classes.
        """
        del batches
        features = self.training_features(data)
        self.trees.copy_from(self._model.fit(features.numpy(), (data.train.label > 0).astype(np.int8)))

    def score(self, batch: EncoderBatch) -> Tensor:
        """Returns logits, float32 [batch]."""
        logits: Tensor = self.trees(self.features(batch))
        return logits.float()


class CountsLogistic(CountsEncoder):
    """Logistic regression on logits of the rates, logarithms of the counts and of the history's length."""

    weight: Tensor
    offset: Tensor

    def __init__(
        self,
        data: EncoderData,
        *,
        inverse_l2: float,
        max_length: int | None,
        user_prior: float,
        item_prior: float,
        n_folds: int,
    ) -> None:
        """Makes empty tables and weights.

        Args:
            data: Sizes.
            inverse_l2: scikit-learn's C.
            max_length: History items counted at most; None = the spec's `history.max_items`.
            user_prior: Rows at the base rate added to each user.
            item_prior: Rows at the base rate added to each item.
            n_folds: Folds of the training features.
        """
        super().__init__(data, user_prior=user_prior, item_prior=item_prior, n_folds=n_folds)
        self.history_items = max_length or data.history_items
        self._model = LogisticRegression(C=inverse_l2, max_iter=1000)
        self.register_buffer("weight", torch.zeros(5, dtype=torch.float64))
        self.register_buffer("offset", torch.zeros((), dtype=torch.float64))

    def fit_direct(self, data: EncoderData, batches: Iterator[EncoderBatch]) -> None:
        """Solves the regression; `batches` supplies the histories of the training rows.

        Raises:
            DataError: If the rows are not of both classes, or the batches are not those rows.
        """
        length = torch.cat([self._history_length(batch) for batch in batches])
        if length.numel() != data.train.label.size:
            raise DataError(
                f"counts-logistic: the batches hold {length.numel()} rows, the training data {data.train.label.size}"
            )
        inputs = regression_inputs(self.training_features(data), length.cpu())
        mean, spread = inputs.mean(dim=0), inputs.std(dim=0, unbiased=False)
        spread = torch.where(spread > 0, spread, 1.0)
        self._model.fit(((inputs - mean) / spread).numpy(), (data.train.label > 0).astype(np.int8))
        self.weight.copy_(torch.from_numpy(self._model.coef_[0]) / spread)
        self.offset.copy_(float(self._model.intercept_[0]) - (self.weight.cpu() * mean).sum())

    def score(self, batch: EncoderBatch) -> Tensor:
        """Returns logits, float32 [batch]."""
        inputs = regression_inputs(self.features(batch), self._history_length(batch))
        return ((inputs * self.weight).sum(dim=1) + self.offset).float()

    def _history_length(self, batch: EncoderBatch) -> Tensor:
        """Returns the number of history items counted, float64 [batch]."""
        if batch.history is None:
            raise DataError("counts-logistic: the batch carries no history; rows for this encoder need `history`")
        return (batch.history[:, -self.history_items :] != 0).sum(dim=1).double()


def regression_inputs(features: Tensor, length: Tensor) -> Tensor:
    """Returns the inputs of the regression.

    Args:
        features: float64 [n, 4] as `CountTables.features` gives them.
        length: float64 [n] history items.

    Returns:
        float64 [n, 5]: logit of the user's rate, log of its rows + 1, the same of the item, log of the length + 1.
    """
    user_rate, user_rows, item_rate, item_rows = features.unbind(dim=1)
    columns = [user_rate.logit(), user_rows.log1p(), item_rate.logit(), item_rows.log1p(), length.log1p()]
    return torch.stack(columns, dim=1)


def build_gbdt(config: CountsGBDTConfig, *, data: EncoderData, context: BuildContext) -> CountsGBDT:  # noqa: ARG001
    """Builds `counts-gbdt` (contract: `collm.contracts.encoder.Encoder`)."""
    return CountsGBDT(data, **config.model_dump(exclude={"name"}))


def build_logistic(config: CountsLogisticConfig, *, data: EncoderData, context: BuildContext) -> CountsLogistic:  # noqa: ARG001
    """Builds `counts-logistic` (contract: `collm.contracts.encoder.Encoder`)."""
    return CountsLogistic(data, **config.model_dump(exclude={"name"}))
