"""Settings of BinLLM."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from collm.component import component_field
from collm.contracts.encoder import EncoderConfig, FitConfig

BITS_PER_NUMBER = 8


class BinariseFit(FitConfig):
    """Training settings of the codes."""

    learning_rate: float = Field(default=1e-3, gt=0, description="Adam's step size.")
    weight_decay: float = Field(default=1e-4, ge=0, description="L2 coefficient, coupled (Adam).")
    epochs: int = Field(default=200, ge=1, description="Passes over the training rows at most.")
    patience: int = Field(default=30, ge=1, description="Validations without a better AUC before stopping.")


class BinLlmConfig(EncoderConfig):
    """Settings of `binllm`."""

    encoder: EncoderConfig = component_field(
        "encoder",
        description="The encoder whose vectors become bits; it may read neither histories nor the target item.",
        gives=frozenset({"vectors"}),
    )
    bits: int = Field(default=32, ge=1, le=1024, description="Bits per user and per item.")
    text: Literal["dot-decimal", "binary"] = Field(
        default="dot-decimal",
        description="How bits are written: `dot-decimal` as numbers of eight bits with points between, as in an "
        "address (172.16.254.1); `binary` as digits (10101100...).",
    )
    fit: BinariseFit = Field(default=BinariseFit(), description="Training settings of the codes.")

    @model_validator(mode="after")
    def _whole_numbers(self) -> BinLlmConfig:
        if self.text == "dot-decimal" and self.bits % BITS_PER_NUMBER:
            raise ValueError(
                f"bits is {self.bits}; dot-decimal writes {BITS_PER_NUMBER} bits per number, so give a multiple of "
                f"{BITS_PER_NUMBER}, or set text to binary"
            )
        return self
