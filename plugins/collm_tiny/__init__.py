"""`tiny`: a random Llama with a tokenizer made in code, for tests and dry runs."""

from __future__ import annotations

from collections.abc import Sequence

from collm.component import Component
from collm.hookspecs import hookimpl
from collm_tiny.config import TinyConfig


@hookimpl
def register_backbones() -> Sequence[Component]:
    """Returns the backbone."""
    return [
        Component(
            kind="backbone",
            name="tiny",
            factory="collm_tiny.backbone:build",
            config=TinyConfig,
            summary="A random Llama of a few thousand parameters: no files, for tests and dry runs.",
        )
    ]
