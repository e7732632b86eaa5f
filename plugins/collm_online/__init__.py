"""An encoder that knows every label strictly before a row, beside the vectors of another encoder."""

from __future__ import annotations

from collections.abc import Sequence

from collm.component import Component
from collm.hookspecs import hookimpl
from collm_online.config import OnlineConfig


@hookimpl
def register_encoders() -> Sequence[Component]:
    """Returns the encoder."""
    profiles = ("paper", "reference", "recommended")
    return [
        Component(
            kind="encoder",
            name="online",
            factory="collm_online.encoder:build",
            config=OnlineConfig,
            summary="Another encoder, and what all labels strictly before the row say of user and item.",
            needs=frozenset({"earlier-labels"}),
            gives=frozenset({"scores", "vectors"}),
            profiles={key: {"inner.name": "mf-bias"} for key in profiles},
            version=2,
        )
    ]
