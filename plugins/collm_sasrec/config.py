"""Settings of SASRec. The defaults were searched on the validation split of ML-1M (see README.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from collm.contracts.encoder import FitConfig, VectorEncoderConfig


class SASRecFit(FitConfig):
    """Training settings of SASRec."""

    learning_rate: float = Field(default=1e-3, gt=0, description="Adam's step size.")
    weight_decay: float = Field(default=2e-3, ge=0, description="L2 coefficient on the network, coupled (Adam).")
    epochs: int = Field(default=200, ge=1, description="Passes over the training rows at most.")
    patience: int = Field(default=10, ge=1, description="Validations without a better AUC before stopping.")
    batch_size: int = Field(default=2048, ge=1, description="Training rows per optimiser step.")


class SASRecConfig(VectorEncoderConfig):
    """Settings of `sasrec`."""

    embedding_size: int = Field(default=16, ge=1, description="Length of one item embedding and of the hidden state.")
    max_length: int | None = Field(
        default=None,
        ge=1,
        description="History items at most, the latest ones; null = mean number of training rows per training user.",
    )
    n_blocks: int = Field(default=1, ge=1, description="Attention blocks.")
    n_heads: int = Field(default=1, ge=1, description="Attention heads; must divide embedding_size.")
    dropout: float = Field(
        default=0.5, ge=0, lt=1, description="Dropout probability on embeddings, attention and layers."
    )
    init_std: float = Field(default=0.1, gt=0, description="Standard deviation of the initial embeddings.")
    attend_padding: bool = Field(
        default=False, description="Let padding positions take part in the attention, as the reference does."
    )
    objective: Literal["scorer", "next-item"] = Field(
        default="scorer",
        description="scorer: cross-entropy on the observed label of the target (fact 18); next-item: the original's, a "
        "positive target against one sampled item.",
    )
    biases: bool = Field(
        default=True, description="Add a user, an item and a global bias to the score and the vectors."
    )
    bias_learning_rate: float = Field(default=3e-2, gt=0, description="Adam's step size of the biases.")
    bias_weight_decay: float = Field(default=2e-5, ge=0, description="L2 coefficient on the biases, coupled (Adam).")
    fit: SASRecFit = Field(default=SASRecFit(), description="Training settings.")

    @model_validator(mode="after")
    def heads_divide_embedding(self) -> SASRecConfig:
        """Refuses a head count that does not divide the embedding size."""
        if self.embedding_size % self.n_heads:
            raise ValueError(f"n_heads must divide embedding_size {self.embedding_size}, got n_heads={self.n_heads}")
        return self


REFERENCE: Mapping[str, Any] = {
    "embedding_size": 64,
    "max_length": 25,
    "n_blocks": 2,
    "n_heads": 1,
    "dropout": 0.2,
    "init_std": 1.0,
    "attend_padding": True,
    "objective": "scorer",
    "biases": False,
    "fit.learning_rate": 1e-2,
    "fit.weight_decay": 1e-2,
    "fit.epochs": 5000,
    "fit.patience": 100,
    "fit.batch_size": 2048,
}
"""The published ML-1M configuration and training script (facts 18, 19 and 47)."""

REFERENCE_BOOK: Mapping[str, Any] = {"max_length": 20, "fit.batch_size": 10240}
"""Where the published Amazon-Book configuration differs (facts 19 and 47)."""

PAPER: Mapping[str, Any] = {**REFERENCE, "max_length": None}
"""The paper: the sequence is as long as users' average number of interactions (section 5.1.3); the code has 25."""
