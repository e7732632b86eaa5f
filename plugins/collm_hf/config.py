"""Settings of `hf`."""

from __future__ import annotations

from pathlib import Path

from collm.component import location_field
from collm.contracts.backbone import ModelFolderConfig
from collm.contracts.model_folder import MODEL_FILES


class HfConfig(ModelFolderConfig):
    """Settings of `hf`."""

    path: Path = location_field(
        ..., description="Folder with config.json, tokenizer files and weights.", files=MODEL_FILES
    )
