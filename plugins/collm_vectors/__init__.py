"""Vectors that the user already has, as an encoder."""

from __future__ import annotations

from collections.abc import Sequence

from collm.component import Component
from collm.hookspecs import hookimpl
from collm_vectors.config import VectorsConfig


@hookimpl
def register_encoders() -> Sequence[Component]:
    """Returns the encoder."""
    return [
        Component(
            kind="encoder",
            name="vectors",
            factory="collm_vectors.encoder:build",
            config=VectorsConfig,
            summary="User and item vectors of your own, from .npy, .parquet or .safetensors files by raw id.",
            gives=frozenset({"scores", "vectors"}),
        )
    ]
