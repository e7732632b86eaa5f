"""Settings of the backbones."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from collm.component import added_field, location_field
from collm.contracts.backbone import ANSWER_WORDS, BackboneConfig, ModelFolderConfig
from collm.contracts.model_folder import LLAMA_MODULES, MODEL_FILES, hub_folder


class HfConfig(ModelFolderConfig):
    """Settings of `hf`."""

    path: Path | None = location_field(
        None,
        description="Folder with config.json, tokenizer files and weights; null = what `collm fetch hf --set "
        "checkpoint=OWNER/NAME` left.",
        files=MODEL_FILES,
    )
    checkpoint: str | None = added_field(
        None,
        description="OWNER/NAME of the model on the hub; with `path`, what that folder is a copy of.",
        pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$",
    )
    revision: str | None = added_field(
        None, description="Branch, tag or commit of `checkpoint`; null = the hub's main branch.", min_length=1
    )

    @model_validator(mode="after")
    def _names_a_model(self) -> HfConfig:
        if self.path is None and self.checkpoint is None:
            raise ValueError("give path (a model folder) or checkpoint (OWNER/NAME on the hub)")
        if self.revision is not None and self.checkpoint is None:
            raise ValueError(f"revision '{self.revision}' is one of a checkpoint: give checkpoint, too")
        return self

    def fetched_folder(self) -> tuple[str, str] | None:
        """Returns the cache's folder of the checkpoint and the command that fetches it, None with a `path`."""
        if self.path is not None or self.checkpoint is None:
            return None
        revision = f" --set revision={self.revision}" if self.revision else ""
        command = f"collm fetch hf --set checkpoint={self.checkpoint}{revision}"
        return hub_folder(self.checkpoint, self.revision), command


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

    def licence(self) -> str:
        """Returns the licence of both checkpoints."""
        return "apache-2.0"


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

    def licence(self) -> str:
        """Returns that of Llama 2 for v1.5, and `other` for v0, which LLaMA 1's terms bind."""
        return "llama2" if self.version == "v1.5" else "other"


class SmolLm2Config(BackboneConfig):
    """Settings of `smollm2-135m`: those of every backbone."""

    def licence(self) -> str:
        """Returns the licence of the weights."""
        return "apache-2.0"

    def modules(self) -> frozenset[str]:
        """Returns the names of a decoder of the Llama kind."""
        return LLAMA_MODULES

    def chat_fault(self) -> str:
        """Returns nothing: the weights come with a chat template."""
        return ""

    def answer_words(self) -> tuple[str, str]:
        """Returns the words of Hugging Face models."""
        return ANSWER_WORDS
