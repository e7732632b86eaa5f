"""Boosted trees as plain arrays: scikit-learn grows them, this module keeps and walks them."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from torch import Tensor, nn

WALK_ROWS = 8192


class TreeArrays(nn.Module):
    """The nodes of all trees in fixed-size buffers, saved and loaded like any weight; no pickle.

    A node sends a row left where `feature <= threshold`; a leaf points to itself. Unused trees are a single leaf of
    value 0.
    """

    feature: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    value: Tensor
    baseline: Tensor
    depth: Tensor

    def __init__(self, n_trees: int, max_leaves: int) -> None:
        """Makes room for `n_trees` trees of at most `max_leaves` leaves."""
        super().__init__()
        shape = (n_trees, 2 * max_leaves - 1)
        for name in ("feature", "left", "right"):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.int64))
        for name in ("threshold", "value"):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("baseline", torch.zeros((), dtype=torch.float64))
        self.register_buffer("depth", torch.zeros((), dtype=torch.int64))

    def copy_from(self, model: HistGradientBoostingClassifier) -> None:
        """Copies a fitted binary classifier without missing values or categories.

        Args:
            model: At most as many trees and leaves as there is room for.
        """
        self.baseline.fill_(float(np.ravel(model._baseline_prediction)[0]))
        deepest = 0
        for number, (tree,) in enumerate(model._predictors):
            nodes = tree.nodes
            size, leaf = len(nodes), nodes["is_leaf"].astype(bool)
            itself = np.arange(size)
            self.feature[number, :size] = torch.from_numpy(np.where(leaf, 0, nodes["feature_idx"]).astype(np.int64))
            self.threshold[number, :size] = torch.from_numpy(np.where(leaf, 0.0, nodes["num_threshold"]))
            self.left[number, :size] = torch.from_numpy(np.where(leaf, itself, nodes["left"]).astype(np.int64))
            self.right[number, :size] = torch.from_numpy(np.where(leaf, itself, nodes["right"]).astype(np.int64))
            self.value[number, :size] = torch.from_numpy(nodes["value"].copy())
            deepest = max(deepest, int(nodes["depth"].max()))
        self.depth.fill_(deepest)

    def forward(self, features: Tensor) -> Tensor:
        """Returns the raw score (logit): baseline plus one leaf per tree.

        Args:
            features: float64 [batch, n_features], finite.

        Returns:
            float64 [batch].
        """
        parts = [self._walk(part) for part in torch.split(features, WALK_ROWS)]
        return torch.cat(parts) if parts else features.new_zeros(0)

    def _walk(self, features: Tensor) -> Tensor:
        """Returns the raw scores of some rows, all trees at once: float64 [rows]."""
        node = torch.zeros(features.shape[0], self.feature.shape[0], dtype=torch.int64, device=features.device)
        tree = torch.arange(self.feature.shape[0], device=features.device)
        for _ in range(int(self.depth)):
            goes_left = features.gather(1, self.feature[tree, node]) <= self.threshold[tree, node]
            node = torch.where(goes_left, self.left[tree, node], self.right[tree, node])
        return self.baseline + self.value[tree, node].sum(dim=1)
