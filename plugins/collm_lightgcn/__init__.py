"""LightGCN: embeddings smoothed over the graph of positive training interactions."""

from __future__ import annotations

from collections.abc import Sequence

from collm.component import Component
from collm.hookspecs import hookimpl
from collm_lightgcn.config import REFERENCE, REFERENCE_BOOK, LightGCNConfig


@hookimpl
def register_encoders() -> Sequence[Component]:
    """Returns the LightGCN encoder."""
    return [
        Component(
            kind="encoder",
            name="lightgcn",
            factory="collm_lightgcn.encoder:build",
            config=LightGCNConfig,
            summary="Mean of embeddings propagated over the positive training graph (He et al. 2020), with biases.",
            needs=frozenset({"graph"}),
            gives=frozenset({"scores", "vectors"}),
            profiles={"paper": REFERENCE, "reference": REFERENCE},
            dataset_profiles={"amazon-book": {"paper": REFERENCE_BOOK, "reference": REFERENCE_BOOK}},
        )
    ]
