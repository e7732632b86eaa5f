"""Settings of the backbones."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from collm.component import location_field
from collm.contracts.backbone import ANSWER_WORDS, BackboneConfig, ModelFolderConfig
from collm.contracts.model_folder import LLAMA_MODULES, MODEL_FILES


class HfConfig(ModelFolderConfig):
    """Settings of `hf`."""

    path: Path = location_field(
        ..., description="Folder with config.json, tokenizer files and weights.", files=MODEL_FILES
    )


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


class SmolLm2Config(BackboneConfig):
    """Settings of `smollm2-135m`: those of every backbone."""

    def modules(self) -> frozenset[str]:
        """Returns the names of a decoder of the Llama kind."""
        return LLAMA_MODULES

    def answer_words(self) -> tuple[str, str]:
        """Returns the words of Hugging Face models."""
        return ANSWER_WORDS
