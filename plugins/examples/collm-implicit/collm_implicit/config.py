"""Settings of `implicit-als`."""

from __future__ import annotations

from collm.contracts.encoder import EncoderConfig
from pydantic import Field


class ImplicitAlsConfig(EncoderConfig):
    """Settings of `implicit-als`; what the library calls them appears in the descriptions."""

    embedding_size: int = Field(default=16, ge=1, description="Numbers per vector (`factors`).")
    confidence: float = Field(
        default=8.0,
        gt=0,
        description="Weight of a row against a pair without one (`alpha`); a negative row pulls to 0.",
    )
    regularization: float = Field(default=10.0, ge=0, description="L2 coefficient of the vectors.")
    iterations: int = Field(default=15, ge=1, description="Alternations between users and items.")
