"""Cheap, exact baselines that everyone should beat."""

from __future__ import annotations

from collections.abc import Sequence

from collm.component import Component
from collm.hookspecs import hookimpl
from collm_bars.config import CountsGBDTConfig, CountsLogisticConfig, ItemKNNConfig

_SCORES = frozenset({"scores"})


@hookimpl
def register_encoders() -> Sequence[Component]:
    """Returns item-knn and the two models on counts."""
    return [
        Component(
            kind="encoder",
            name="item-knn",
            factory="collm_bars.item_knn:build",
            config=ItemKNNConfig,
            summary="Cosine similarity of the target to the liked items before the row, from positive training pairs.",
            needs=frozenset({"history"}),
            gives=_SCORES,
            ranking_floor=True,
        ),
        Component(
            kind="encoder",
            name="counts-gbdt",
            factory="collm_bars.counts_encoders:build_gbdt",
            config=CountsGBDTConfig,
            summary="Gradient-boosted trees on out-of-fold positive rates and row counts of user and item.",
            gives=_SCORES,
        ),
        Component(
            kind="encoder",
            name="counts-logistic",
            factory="collm_bars.counts_encoders:build_logistic",
            config=CountsLogisticConfig,
            summary="Logistic regression on positive rates, row counts and the length of the history.",
            needs=frozenset({"history"}),
            gives=_SCORES,
        ),
    ]
