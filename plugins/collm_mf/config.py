"""Settings of `mf` and `mf-bias`; how the defaults were chosen appears in the README."""

from __future__ import annotations

from pydantic import Field

from collm.contracts.encoder import FitConfig, VectorEncoderConfig


class MfFit(FitConfig):
    """Training of `mf`: the reference's, with a patience that outlasts its start (README)."""

    learning_rate: float = Field(default=1e-3, gt=0, description="Adam's step size.")
    weight_decay: float = Field(default=1e-4, ge=0, description="L2 coefficient, coupled (Adam).")
    epochs: int = Field(default=500, ge=1, description="Passes over the training rows at most.")
    # From an N(0, 1) start the validation AUC stays at 0.5 for nearly 200 epochs: patience must outlast that.
    patience: int = Field(default=250, ge=1, description="Validations without a better AUC before stopping.")


class MfConfig(VectorEncoderConfig):
    """Settings of `mf`: the reference's (fact 16), because nothing in the search on validation was clearly better."""

    embedding_size: int = Field(default=256, ge=1, description="Numbers per vector.")
    init_std: float = Field(default=1.0, gt=0, description="Standard deviation of the normal start of all vectors.")
    fit: MfFit = Field(default=MfFit(), description="Training settings.")


class MfBiasFit(FitConfig):
    """Training of `mf-bias`, found on validation (README)."""

    learning_rate: float = Field(default=1e-2, gt=0, description="Adam's step size.")
    weight_decay: float = Field(default=2e-4, ge=0, description="L2 coefficient of the factors, coupled (Adam).")
    epochs: int = Field(default=300, ge=1, description="Passes over the training rows at most.")
    # The curve has an early peak at epoch 5 and a better plateau from epoch 60: patience must bridge the dip.
    patience: int = Field(default=40, ge=1, description="Validations without a better AUC before stopping.")


class MfBiasConfig(VectorEncoderConfig):
    """Settings of `mf-bias`."""

    embedding_size: int = Field(default=32, ge=1, description="Factors per vector; the bias is one number more.")
    init_std: float = Field(default=0.01, gt=0, description="Standard deviation of the normal start of the factors.")
    bias_weight_decay: float = Field(
        default=2e-5,
        ge=0,
        description="L2 coefficient of user and item biases, coupled (Adam); `fit.weight_decay` is the factors'.",
    )
    fit: MfBiasFit = Field(default=MfBiasFit(), description="Training settings.")
