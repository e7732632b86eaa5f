"""`vicuna-7b`: the backbone of the paper's main experiments."""

from __future__ import annotations

from collections.abc import Sequence

from collm.component import Component
from collm.hookspecs import hookimpl
from collm_vicuna.config import VicunaConfig


@hookimpl
def register_backbones() -> Sequence[Component]:
    """Returns the backbone."""
    return [
        Component(
            kind="backbone",
            name="vicuna-7b",
            factory="collm_vicuna.backbone:build",
            config=VicunaConfig,
            summary="Vicuna-7B: v1.5 from the Hugging Face hub, or v0 (the paper's) or v1.5 from a local folder.",
            profiles={"paper": {"version": "v0"}, "reference": {"version": "v0"}},
            fetch="collm_vicuna.backbone:fetch",
        )
    ]
