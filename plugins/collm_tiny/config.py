"""Settings of `tiny`."""

from __future__ import annotations

from pydantic import Field

from collm.contracts.backbone import BackboneConfig


class TinyConfig(BackboneConfig):
    """Settings of `tiny`."""

    hidden_size: int = Field(default=32, ge=8, multiple_of=8, description="Width of the token embeddings.")
    n_layers: int = Field(default=2, ge=1, description="Decoder layers.")
    seed: int = Field(default=0, ge=0, description="Seed of the weights.")
