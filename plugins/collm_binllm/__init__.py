"""BinLLM: an encoder's vectors as bits, written into the prompt as text (Zhang et al., ACL 2024)."""

from __future__ import annotations

from collections.abc import Sequence

from collm.component import Component
from collm.hookspecs import hookimpl
from collm_binllm.config import BinLlmConfig


@hookimpl
def register_encoders() -> Sequence[Component]:
    """Returns the encoder."""
    return [
        Component(
            kind="encoder",
            name="binllm",
            factory="collm_binllm.encoder:build",
            config=BinLlmConfig,
            summary="BinLLM: another encoder's vectors as bits, written into the prompt as text; no mapping.",
            gives=frozenset({"scores", "words"}),
            profiles={
                "recommended": {"encoder.name": "mf-bias"},
                "paper": {"encoder.name": "mf"},
                "reference": {"encoder.name": "mf"},
            },
        )
    ]
