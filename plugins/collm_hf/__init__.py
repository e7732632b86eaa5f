"""`hf`: any local Hugging Face causal language model folder as a backbone."""

from __future__ import annotations

from collections.abc import Sequence

from collm.component import Component
from collm.hookspecs import hookimpl
from collm_hf.config import HfConfig


@hookimpl
def register_backbones() -> Sequence[Component]:
    """Returns the backbone."""
    return [
        Component(
            kind="backbone",
            name="hf",
            factory="collm_hf.backbone:build",
            config=HfConfig,
            summary="A local folder with any Hugging Face causal language model.",
        )
    ]
