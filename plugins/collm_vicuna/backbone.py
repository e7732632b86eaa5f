"""Builds the `vicuna-7b` backbone, and fetches its weights."""

from __future__ import annotations

from pathlib import Path

from collm.component import BuildContext
from collm.errors import DataError
from collm.model.hf_backbone import HfBackbone, open_folder
from collm.model.hub import HubModel, fetch_model, model_folder
from collm_vicuna.config import VicunaConfig

MODEL = HubModel(component="vicuna-7b", repository="lmsys/vicuna-7b-v1.5", size_gb=13.5)


def build(config: VicunaConfig, *, context: BuildContext) -> HfBackbone:
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
    return open_folder(model_folder(MODEL, config.path, context), config, context=context)


def fetch(context: BuildContext) -> Path:
    """Returns the folder with the model, downloading it where it is not there yet.

    Raises:
        DataError: If the hub does not give it.
    """
    return fetch_model(MODEL, context)
