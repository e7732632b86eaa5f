"""Builds the `hf` backbone."""

from __future__ import annotations

from collm.component import BuildContext
from collm.model.hf_backbone import HfBackbone
from collm_hf.config import HfConfig


def build(config: HfConfig, *, context: BuildContext) -> HfBackbone:
    """Opens the folder that the config names; weights load later.

    Raises:
        DataError: If the folder is missing or lacks config, tokenizer or weights.
    """
    return HfBackbone(config.path, cache_dir=context.cache_dir, answer_space=config.answer_space)
