"""Settings of `hf`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from collm.component import location_field
from collm.contracts.backbone import BackboneConfig


class HfConfig(BackboneConfig):
    """Settings of `hf`."""

    path: Path = location_field(..., description="Folder with config.json, tokenizer files and weights.")
    answer_space: bool | None = Field(
        default=None,
        description="Whether the answer words carry a leading space (' Yes'); null = yes, unless the tokenizer cannot "
        "tell them apart then. The reference reads the plain word for Qwen (fact 3): false.",
    )
