"""Settings of LightGCN. The defaults were searched on the validation split of ML-1M (see README.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from collm.contracts.encoder import FitConfig, VectorEncoderConfig


class LightGCNFit(FitConfig):
    """Training settings of LightGCN."""

    learning_rate: float = Field(default=1e-3, gt=0, description="Adam's step size.")
    weight_decay: float = Field(default=3e-5, ge=0, description="L2 coefficient on the embeddings, coupled (Adam).")
    epochs: int = Field(default=300, ge=1, description="Passes over the training rows at most.")
    patience: int = Field(default=20, ge=1, description="Validations without a better AUC before stopping.")
    batch_size: int = Field(default=2048, ge=1, description="Training rows per optimiser step; one propagation each.")


class LightGCNConfig(VectorEncoderConfig):
    """Settings of `lightgcn`."""

    embedding_size: int = Field(default=64, ge=1, description="Length of one embedding vector.")
    n_layers: int = Field(default=2, ge=0, description="Propagation layers; 0 = plain matrix factorisation.")
    init_std: float = Field(default=0.1, gt=0, description="Standard deviation of the initial embeddings.")
    loss: Literal["bce", "bpr"] = Field(
        default="bce",
        description="bce: cross-entropy on the observed labels; bpr: each positive row against one sampled item.",
    )
    biases: bool = Field(
        default=True, description="Add a user, an item and a global bias to the score and the vectors."
    )
    bias_learning_rate: float = Field(default=3e-2, gt=0, description="Adam's step size of the biases.")
    bias_weight_decay: float = Field(default=2e-5, ge=0, description="L2 coefficient on the biases, coupled (Adam).")
    fit: LightGCNFit = Field(default=LightGCNFit(), description="Training settings.")


REFERENCE: Mapping[str, Any] = {
    "embedding_size": 64,
    "n_layers": 2,
    "init_std": 0.1,
    "loss": "bce",
    "biases": False,
    "fit.learning_rate": 1e-2,
    "fit.weight_decay": 1e-4,
    "fit.epochs": 5000,
    "fit.patience": 100,
    "fit.batch_size": 2048,
}
"""The published ML-1M configuration (facts 17 and 47)."""

REFERENCE_BOOK: Mapping[str, Any] = {
    "embedding_size": 256,
    "fit.learning_rate": 1e-4,
    "fit.weight_decay": 1e-7,
    "fit.batch_size": 10240,
}
"""Where the published Amazon-Book configuration differs (facts 17 and 47)."""
