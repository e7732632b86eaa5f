"""SASRec: causal self-attention over the items a user liked before the row."""

from __future__ import annotations

from collections.abc import Sequence

from collm.component import Component
from collm.hookspecs import hookimpl
from collm_sasrec.config import PAPER, REFERENCE, REFERENCE_BOOK, SASRecConfig


@hookimpl
def register_encoders() -> Sequence[Component]:
    """Returns the SASRec encoder."""
    return [
        Component(
            kind="encoder",
            name="sasrec",
            factory="collm_sasrec.encoder:build",
            config=SASRecConfig,
            summary="Causal self-attention over the liked items before the row (Kang and McAuley 2018), with biases.",
            needs=frozenset({"history"}),
            gives=frozenset({"scores", "vectors"}),
            profiles={"paper": PAPER, "reference": REFERENCE},
            dataset_profiles={
                "amazon-book": {"paper": {"fit.batch_size": 10240}, "reference": REFERENCE_BOOK},
            },
        )
    ]
