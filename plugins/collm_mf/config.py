"""Settings of `mf` and `mf-bias`; how the defaults were chosen stands in the README."""

from __future__ import annotations

from pydantic import Field

from collm.contracts.encoder import FitConfig, VectorEncoderConfig


class MfConfig(VectorEncoderConfig):
    """Settings of `mf`: the reference's (fact 16), because nothing in the search on validation was clearly better."""

    embedding_size: int = Field(default=256, ge=1, description="Numbers per vector.")
    init_std: float = Field(default=1.0, gt=0, description="Standard deviation of the normal start of all vectors.")
    fit: FitConfig = Field(
        # From this start the validation AUC stays at 0.5 for nearly 200 epochs: patience must outlast that.
        default=FitConfig(learning_rate=1e-3, weight_decay=1e-4, epochs=500, patience=250),
        description="Training settings.",
    )


class MfBiasConfig(VectorEncoderConfig):
    """Settings of `mf-bias`."""

    embedding_size: int = Field(default=32, ge=1, description="Factors per vector; the bias is one number more.")
    init_std: float = Field(default=0.01, gt=0, description="Standard deviation of the normal start of the factors.")
    bias_weight_decay: float = Field(
        default=2e-5,
        ge=0,
        description="L2 coefficient of user and item biases, coupled (Adam); `fit.weight_decay` is the factors'.",
    )
    fit: FitConfig = Field(
        default=FitConfig(learning_rate=1e-2, weight_decay=2e-4, epochs=300, patience=15),
        description="Training settings.",
    )
