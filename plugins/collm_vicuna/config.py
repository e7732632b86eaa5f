"""Settings of `vicuna-7b`."""

from __future__ import annotations

from pathlib import Path

from collm.component import location_field
from collm.contracts.backbone import ModelFolderConfig
from collm.contracts.model_folder import MODEL_FILES


class VicunaConfig(ModelFolderConfig):
    """Settings of `vicuna-7b`."""

    path: Path | None = location_field(
        None,
        description="Folder with a copy of lmsys/vicuna-7b-v1.5; null = what `collm fetch vicuna-7b` left.",
        files=MODEL_FILES,
    )
