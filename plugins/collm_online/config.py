"""Settings of `online`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from collm.component import component_field
from collm.contracts.encoder import EncoderConfig, FitConfig

HalfLife = Annotated[float, Field(gt=0, le=1e6)]


class CombineFit(FitConfig):
    """Training settings of the weights that combine the inner encoder with earlier labels."""

    learning_rate: float = Field(default=0.02, gt=0, description="Adam's step size.")
    weight_decay: float = Field(default=0.0, ge=0, description="L2 coefficient, coupled (Adam).")
    epochs: int = Field(default=100, ge=1, description="Passes over the later training rows at most.")
    patience: int = Field(default=10, ge=1, description="Validations without a better AUC before stopping.")


class OnlineConfig(EncoderConfig):
    """Settings of `online`."""

    inner: EncoderConfig = component_field(
        "encoder",
        description="The encoder beside whose vectors and scores earlier labels appear; it keeps its own `fit`.",
        gives=frozenset({"vectors", "scores"}),
    )
    half_lives: tuple[HalfLife, ...] = Field(
        default=(6.58, 30.0),
        min_length=1,
        description="Rows of the same user or item after which an earlier label counts half; one number each per side. "
        "6.58 = 0.9 for each row.",
    )
    user_smoothing: float = Field(default=3.0, gt=0, description="Rows of the global mean added to each user's rows.")
    item_smoothing: float = Field(default=5.0, gt=0, description="Rows of the global mean added to each item's rows.")
    recent_smoothing: float = Field(default=1.0, gt=0, description="Rows of the global mean added to recent rows.")
    later_share: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="Share of the training rows, latest in time, that the combining weights are learnt on; the inner "
        "encoder is fitted on the rest first.",
    )
    refit: bool = Field(
        default=True, description="Fit the inner encoder on all training rows once the combining weights are known."
    )
    fit: CombineFit = Field(default=CombineFit(), description="Training settings of the combining weights.")
