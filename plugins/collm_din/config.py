"""Settings of DIN. The defaults were searched on the validation split of ML-1M (see README.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from collm.contracts.encoder import FitConfig, VectorEncoderConfig


class DINFit(FitConfig):
    """Training settings of DIN."""

    learning_rate: float = Field(default=1e-4, gt=0, description="Adam's step size.")
    weight_decay: float = Field(default=1e-4, ge=0, description="L2 coefficient on tables and network, coupled (Adam).")
    epochs: int = Field(default=200, ge=1, description="Passes over the training rows at most.")
    patience: int = Field(default=10, ge=1, description="Validations without a better AUC before stopping.")
    batch_size: int = Field(default=2048, ge=1, description="Training rows per optimiser step.")


class DINConfig(VectorEncoderConfig):
    """Settings of `din`."""

    embedding_size: int = Field(
        default=64, ge=1, description="Length of one embedding; the reference's embedding_size is three times this."
    )
    target_aware: bool = Field(
        default=True,
        description="User vector = [target, attention-pooled history, user] (fact 20); "
        "false: [mean of the history, user], the same for every target.",
    )
    max_length: int | None = Field(
        default=None, ge=1, description="History items at most, the latest ones; null = history.max_items."
    )
    attention_layers: tuple[int, ...] = Field(
        default=(64, 16), min_length=1, description="Widths of the attention network."
    )
    norm_padding: bool = Field(
        default=False,
        description="Let padding enter the statistics of the attention's batch norms in training, as in the reference.",
    )
    layers: tuple[int, ...] = Field(default=(200, 80), min_length=1, description="Widths of the scoring network.")
    dropout: float = Field(default=0.5, ge=0, lt=1, description="Dropout probability in the scoring network.")
    biases: bool = Field(
        default=True, description="Add a user, an item and a global bias to the score and the vectors."
    )
    bias_learning_rate: float = Field(default=3e-2, gt=0, description="Adam's step size of the biases.")
    bias_weight_decay: float = Field(default=2e-5, ge=0, description="L2 coefficient on the biases, coupled (Adam).")
    fit: DINFit = Field(default=DINFit(), description="Training settings.")


REFERENCE: Mapping[str, Any] = {
    "embedding_size": 64,
    "target_aware": True,
    "max_length": 10,
    "attention_layers": [64, 16],
    "norm_padding": True,
    "layers": [200, 80],
    "dropout": 0.2,
    "biases": False,
    "fit.learning_rate": 1e-4,
    "fit.weight_decay": 1e-4,
    "fit.epochs": 5000,
    "fit.patience": 100,
    "fit.batch_size": 2048,
}
"""Fact 20; learning rate, decay and dropout as in the name of the published ML-1M checkpoint file."""

REFERENCE_BOOK: Mapping[str, Any] = {"embedding_size": 256, "fit.batch_size": 10240}
"""Where the published Amazon-Book configuration differs (facts 20 and 47)."""
