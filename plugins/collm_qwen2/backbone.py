"""Builds the `qwen2-1.5b` backbone, and fetches its weights."""

from __future__ import annotations

from pathlib import Path

from collm.component import BuildContext
from collm.model.hf_backbone import HfBackbone, open_folder
from collm.model.hub import HubModel, fetch_model, model_folder
from collm_qwen2.config import Qwen2Config

SIZE_GB = 3.1


def build(config: Qwen2Config, *, context: BuildContext) -> HfBackbone:
    """Opens the user's folder, or the fetched one; weights load later.

    Raises:
        DataError: If there is neither, or the folder lacks config, tokenizer or weights.
    """
    return open_folder(model_folder(_model(config), config.path, context), config, context=context)


def fetch(context: BuildContext, config: Qwen2Config) -> Path:
    """Returns the folder with the model, downloading it where it is not there yet.

    Raises:
        DataError: If the hub does not give it.
    """
    return fetch_model(_model(config), context)


def _model(config: Qwen2Config) -> HubModel:
    return HubModel(component=config.name, repository=config.checkpoint, size_gb=SIZE_GB)
