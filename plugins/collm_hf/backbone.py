"""Builds the `hf` backbone."""

from __future__ import annotations

from collm.component import BuildContext
from collm.model.hf_backbone import HfBackbone, open_folder
from collm_hf.config import HfConfig


def build(config: HfConfig, *, context: BuildContext) -> HfBackbone:
    """Opens the folder that the config names; weights load later.

    Raises:
        DataError: If the folder is missing or lacks config, tokenizer or weights.
    """
    return open_folder(config.path, config, context=context)
