"""Settings of `smollm2-135m`."""

from __future__ import annotations

from collm.contracts.backbone import BackboneConfig


class SmolLm2Config(BackboneConfig):
    """Settings of `smollm2-135m`: those of every backbone."""
