"""Alternating least squares of the library `implicit`, as an encoder."""

from __future__ import annotations

from collections.abc import Sequence

from collm.component import Component
from collm.hookspecs import hookimpl

from collm_implicit.config import ImplicitAlsConfig


@hookimpl
def register_encoders() -> Sequence[Component]:
    """Returns the encoder."""
    return [
        Component(
            kind="encoder",
            name="implicit-als",
            factory="collm_implicit.encoder:build",
            config=ImplicitAlsConfig,
            summary="Alternating least squares on positives and negatives with confidence, by the library implicit.",
            gives=frozenset({"scores", "vectors"}),
        )
    ]
