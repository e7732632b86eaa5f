"""Builds the backbones of Hugging Face folders and of the paper's models, and fetches the latter's weights."""

from __future__ import annotations

from pathlib import Path

from collm.component import BuildContext
from collm.errors import DataError
from collm.model.hf_backbone import HfBackbone, open_folder
from collm.model.hub import HubModel, fetch_model, model_folder
from collm_hf.config import HfConfig, Qwen2Config, VicunaConfig

# Of each checkpoint, in GB.
_QWEN2_GB = 3.1
VICUNA = HubModel(component="vicuna-7b", repository="lmsys/vicuna-7b-v1.5", size_gb=13.5)


def build_folder(config: HfConfig, *, context: BuildContext) -> HfBackbone:
    """Opens the folder that the config names, or the fetched one; weights load later.

    Raises:
        DataError: If the folder is missing or lacks config, tokenizer or weights.
    """
    folder = model_folder(_checkpoint(config), config.path, context) if config.checkpoint else config.path
    assert folder is not None, "the settings name a folder or a checkpoint"
    return open_folder(folder, config, context=context)


def fetch_folder(context: BuildContext, config: HfConfig) -> Path:
    """Returns the folder with the checkpoint, downloading it where it is not there yet.

    Raises:
        DataError: If the settings name no checkpoint, or the hub does not give it.
    """
    return fetch_model(_checkpoint(config), context)


def build_qwen2(config: Qwen2Config, *, context: BuildContext) -> HfBackbone:
    """Opens the user's folder, or the fetched one; weights load later.

    Raises:
        DataError: If there is neither, or the folder lacks config, tokenizer or weights.
    """
    return open_folder(model_folder(_qwen2(config), config.path, context), config, context=context)


def fetch_qwen2(context: BuildContext, config: Qwen2Config) -> Path:
    """Returns the folder with the model, downloading it where it is not there yet.

    Raises:
        DataError: If the hub does not give it.
    """
    return fetch_model(_qwen2(config), context)


def build_vicuna(config: VicunaConfig, *, context: BuildContext) -> HfBackbone:
    """Opens the user's folder, or the fetched one; weights load later.

    Raises:
        DataError: If there is neither, or the folder lacks config, tokenizer or weights.
    """
    if config.version == "v0" and config.path is None:
        raise DataError(
            "backbone 'vicuna-7b', version v0: its weights are published as differences to LLaMA-7B "
            "(lmsys/vicuna-7b-delta-v0) and cannot be fetched; merge them with FastChat's apply_delta and name the "
            "folder in backbone.path, or set backbone.version: v1.5 (another model than the paper's)"
        )
    return open_folder(model_folder(VICUNA, config.path, context), config, context=context)


def fetch_vicuna(context: BuildContext) -> Path:
    """Returns the folder with the model, downloading it where it is not there yet.

    Raises:
        DataError: If the hub does not give it.
    """
    return fetch_model(VICUNA, context)


def _checkpoint(config: HfConfig) -> HubModel:
    if config.checkpoint is None:
        raise DataError("backbone 'hf': name the model: collm fetch hf --set checkpoint=OWNER/NAME")
    settings = {"checkpoint": config.checkpoint} | ({"revision": config.revision} if config.revision else {})
    return HubModel("hf", config.checkpoint, None, revision=config.revision, settings=settings)


def _qwen2(config: Qwen2Config) -> HubModel:
    return HubModel(component="qwen2-1.5b", repository=config.checkpoint, size_gb=_QWEN2_GB)
