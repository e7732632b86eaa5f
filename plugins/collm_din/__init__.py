"""DIN: attention from the target item over the items a user liked before the row."""

from __future__ import annotations

from collections.abc import Sequence

from collm.component import Component
from collm.hookspecs import hookimpl
from collm_din.config import REFERENCE, REFERENCE_BOOK, DINConfig


@hookimpl
def register_encoders() -> Sequence[Component]:
    """Returns the DIN encoder."""
    return [
        Component(
            kind="encoder",
            name="din",
            factory="collm_din.encoder:build",
            config=DINConfig,
            summary="Target-aware attention pooling of the history, Dice network (Zhou et al. 2018), with biases.",
            needs=frozenset({"history"}),
            gives=frozenset({"scores", "vectors"}),
            profiles={"paper": REFERENCE, "reference": REFERENCE},
            dataset_profiles={"amazon-book": {"paper": REFERENCE_BOOK, "reference": REFERENCE_BOOK}},
        )
    ]
