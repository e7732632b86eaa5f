"""Settings of `smollm2-135m`."""

from __future__ import annotations

from collm.contracts.backbone import ANSWER_WORDS, BackboneConfig
from collm.contracts.model_folder import LLAMA_MODULES


class SmolLm2Config(BackboneConfig):
    """Settings of `smollm2-135m`: those of every backbone."""

    def modules(self) -> frozenset[str]:
        """Returns the names of a decoder of the Llama kind."""
        return LLAMA_MODULES

    def answer_words(self) -> tuple[str, str]:
        """Returns the words of Hugging Face models."""
        return ANSWER_WORDS
