"""`qwen2-1.5b`: the paper's second backbone (Table 7)."""

from __future__ import annotations

from collections.abc import Sequence

from collm.component import Component
from collm.hookspecs import hookimpl
from collm_qwen2.config import Qwen2Config


@hookimpl
def register_backbones() -> Sequence[Component]:
    """Returns the backbone."""
    return [
        Component(
            kind="backbone",
            name="qwen2-1.5b",
            factory="collm_qwen2.backbone:build",
            config=Qwen2Config,
            summary="Qwen2-1.5B (Apache-2.0), from the Hugging Face hub or a local folder.",
            # Fact 3: the published code reads the word without the space that continues the prompt.
            profiles={
                "paper": {"checkpoint": "Qwen/Qwen2-1.5B"},
                "reference": {"checkpoint": "Qwen/Qwen2-1.5B", "answer_space": False},
            },
            fetch="collm_qwen2.backbone:fetch",
            fetch_fields=("checkpoint",),
        )
    ]
