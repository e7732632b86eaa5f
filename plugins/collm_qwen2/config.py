"""Settings of `qwen2-1.5b`."""

from __future__ import annotations

from pathlib import Path

from collm.component import location_field
from collm.contracts.backbone import ModelFolderConfig
from collm.contracts.model_folder import MODEL_FILES


class Qwen2Config(ModelFolderConfig):
    """Settings of `qwen2-1.5b`."""

    path: Path | None = location_field(
        None,
        description="Folder with a copy of Qwen/Qwen2-1.5B-Instruct; null = what `collm fetch qwen2-1.5b` left.",
        files=MODEL_FILES,
    )
