"""Settings of `qwen2-1.5b`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from collm.component import location_field
from collm.contracts.backbone import ModelFolderConfig
from collm.contracts.model_folder import MODEL_FILES


class Qwen2Config(ModelFolderConfig):
    """Settings of `qwen2-1.5b`."""

    checkpoint: Literal["Qwen/Qwen2-1.5B", "Qwen/Qwen2-1.5B-Instruct"] = Field(
        default="Qwen/Qwen2-1.5B",
        description="Weights on the hub: the base model, which the paper uses, or the tuned one.",
    )
    path: Path | None = location_field(
        None,
        description="Folder with a copy of `checkpoint`; null = what `collm fetch qwen2-1.5b` left.",
        files=MODEL_FILES,
    )
