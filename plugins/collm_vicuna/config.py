"""Settings of `vicuna-7b`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from collm.component import location_field
from collm.contracts.backbone import ModelFolderConfig
from collm.contracts.model_folder import MODEL_FILES


class VicunaConfig(ModelFolderConfig):
    """Settings of `vicuna-7b`."""

    version: Literal["v0", "v1.5"] = Field(
        default="v1.5",
        description="v0: the paper's, made from LLaMA 1 and published as differences only, so it needs `path`; v1.5: "
        "made from Llama 2, `collm fetch vicuna-7b` gets it.",
    )
    path: Path | None = location_field(
        None,
        description="Folder with Vicuna-7B of this version; null = what `collm fetch vicuna-7b` left (v1.5).",
        files=MODEL_FILES,
    )
