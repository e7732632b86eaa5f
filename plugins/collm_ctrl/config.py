"""Settings of CTRL. The defaults were searched on the validation split of ML-1M (see README.md)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from collm.component import component_field
from collm.contracts.backbone import BackboneConfig
from collm.contracts.encoder import EncoderConfig, FitConfig

VECTORS_AND_SCORES = frozenset({"scores", "vectors"})


class AlignFit(FitConfig):
    """Training settings of stage one."""

    learning_rate: float = Field(default=1e-3, gt=0, description="Adam's step size.")
    weight_decay: float = Field(default=0.0, ge=0, description="L2 coefficient, coupled (Adam).")
    epochs: int = Field(default=10, ge=1, description="Passes over the training rows at most.")
    patience: int = Field(default=3, ge=1, description="Validations without a lower contrastive loss before stopping.")
    batch_size: int = Field(
        default=1024, ge=1, description="Training rows per optimiser step, each the negative of all others."
    )


class CtrlConfig(EncoderConfig):
    """Settings of `ctrl`."""

    encoder: EncoderConfig = component_field(
        "encoder",
        description="The encoder that is aligned and then fitted; its own `fit` is that of stage two.",
        gives=VECTORS_AND_SCORES,
    )
    text_backbone: BackboneConfig = component_field(
        "backbone", description="The frozen language model of the text side; nothing of it is in the fitted encoder."
    )
    pooling: Literal["mean", "last"] = Field(
        default="mean", description="Text vector: mean of the last layer's states over the text's tokens, or the last."
    )
    history_titles: int = Field(
        default=10, ge=1, description="Titles in a user's text at most: the user's latest liked training items."
    )
    max_text_tokens: int = Field(default=256, ge=1, description="Tokens per text at most; the rest is cut off.")
    projection_size: int = Field(default=128, ge=1, description="Length of an aligned vector, per subspace.")
    n_subspaces: int = Field(
        default=1, ge=1, description="Parts that each side is compared in (the paper's fine-grained alignment)."
    )
    temperature: float = Field(default=0.7, gt=0, description="Divides the cosine similarities of stage one.")
    align: AlignFit = Field(default=AlignFit(), description="Training settings of stage one.")


class CtrlDinConfig(CtrlConfig):
    """Settings of `ctrl-din`."""

    @field_validator("encoder")
    @classmethod
    def _is_din(cls, value: EncoderConfig) -> EncoderConfig:
        if value.name != "din":
            raise ValueError(f"'ctrl-din' is CTRL on 'din', got '{value.name}'; for another encoder take 'ctrl'")
        return value
