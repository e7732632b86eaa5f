"""Language models as backbones: any local Hugging Face folder, the paper's two models, and a small embedded one."""

from __future__ import annotations

from collections.abc import Sequence

from collm.component import Component
from collm.hookspecs import hookimpl
from collm_hf.config import HfConfig, Qwen2Config, SmolLm2Config, VicunaConfig

_BACKBONES = (
    Component(
        kind="backbone",
        name="hf",
        factory="collm_hf.backbone:build_folder",
        config=HfConfig,
        summary="Any Hugging Face causal language model: a local folder, or a checkpoint of the hub.",
        fetch="collm_hf.backbone:fetch_folder",
        fetch_fields=("checkpoint", "revision"),
    ),
    Component(
        kind="backbone",
        name="qwen2-1.5b",
        factory="collm_hf.backbone:build_qwen2",
        config=Qwen2Config,
        summary="Qwen2-1.5B (Apache-2.0), from the Hugging Face hub or a local folder.",
        # Fact 3: the published code reads the word without the space that continues the prompt.
        profiles={
            "paper": {"checkpoint": "Qwen/Qwen2-1.5B"},
            "reference": {"checkpoint": "Qwen/Qwen2-1.5B", "answer_space": False},
        },
        fetch="collm_hf.backbone:fetch_qwen2",
        fetch_fields=("checkpoint",),
    ),
    Component(
        kind="backbone",
        name="smollm2-135m",
        factory="collm_hf.smollm2:build",
        config=SmolLm2Config,
        summary="SmolLM2-135M-Instruct (Llama architecture, Apache-2.0), 4-bit weights dequantised.",
        fetch="collm_hf.smollm2:fetch",
    ),
    Component(
        kind="backbone",
        name="vicuna-7b",
        factory="collm_hf.backbone:build_vicuna",
        config=VicunaConfig,
        summary="Vicuna-7B: v1.5 from the Hugging Face hub, or v0 (the paper's) or v1.5 from a local folder.",
        profiles={"paper": {"version": "v0"}, "reference": {"version": "v0"}},
        fetch="collm_hf.backbone:fetch_vicuna",
    ),
)


@hookimpl
def register_backbones() -> Sequence[Component]:
    """Returns the backbones."""
    return _BACKBONES
