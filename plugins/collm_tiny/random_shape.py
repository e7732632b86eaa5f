"""The `random-shape` backbone: a real architecture of any size with seeded random weights."""

from __future__ import annotations

import copy
import hashlib
import json
from functools import cached_property
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

from collm.component import BuildContext
from collm.contracts.backbone import Backbone, PromptTokenizer
from collm.errors import SpecError
from collm.model.hf_backbone import describe_model
from collm.model.hf_tokenizer import HfTokenizer
from collm_tiny.config import RandomShapeConfig
from collm_tiny.tokenizer import tiny_tokenizer

ARCHITECTURES = {"llama": LlamaConfig, "qwen2": Qwen2Config}


class RandomShapeBackbone:
    """A `collm.contracts.backbone.Backbone` whose weights are drawn where they are used.

    Attributes:
        hidden_size: Width of the token embeddings.
        max_length: Longest sequence, in tokens.
        lora_targets: Modules that LoRA adapts.
    """

    def __init__(self, settings: RandomShapeConfig, *, tokenizer_of: Backbone | None) -> None:
        """Takes the shape, and the backbone whose tokenizer is used; None = the tokenizer of `tiny`."""
        self.hidden_size, self.max_length = settings.hidden_size, settings.max_length
        self.lora_targets = ("q_proj", "v_proj")
        self._settings, self._tokenizer_of = settings, tokenizer_of
        self._config = ARCHITECTURES[settings.architecture](
            vocab_size=settings.vocabulary_size,
            hidden_size=settings.hidden_size,
            intermediate_size=settings.intermediate_size,
            num_hidden_layers=settings.n_layers,
            num_attention_heads=settings.n_heads,
            num_key_value_heads=settings.n_key_value_heads,
            max_position_embeddings=settings.max_length,
            tie_word_embeddings=settings.tied_embeddings,
            attn_implementation="sdpa",
        )

    def content_hash(self) -> str:
        """Returns a hex digest of everything that decides the weights and the tokenizer."""
        others = {"name", "dtype", "max_prompt_tokens", "tokenizer_of", "compile"}
        shape = self._settings.model_dump(mode="json", exclude=others)
        other = (
            self._tokenizer_of.content_hash() if self._tokenizer_of else sorted(tiny_tokenizer().get_vocab().items())
        )
        return hashlib.sha256(json.dumps([shape, other]).encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        """Returns architecture and parameter counts."""
        # Counting asks the tokenizer for nothing but its answer words and leading ids.
        facts = describe_model(self._config, tokenizer=self._tokenizer)  # type: ignore[arg-type]
        return facts | {"quantisation": None, "weights": f"random, seed {self._settings.seed}: scores mean nothing"}

    def tokenizer(self) -> PromptTokenizer:
        """Returns the tokenizer.

        Raises:
            SpecError: If it has more ids than the model has token embeddings.
        """
        return self._tokenizer

    def load(self, *, dtype: torch.dtype, device: torch.device) -> torch.nn.Module:
        """Returns the frozen model in eval mode; torch's global generators are left as they were."""
        devices = [device.index or 0] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), torch.device(device):
            torch.manual_seed(self._settings.seed)
            # Drawn on the device in the final format: a model of seven billion would pass 28 GB of memory otherwise.
            model = AutoModelForCausalLM.from_config(copy.deepcopy(self._config), dtype=dtype)
        frozen: torch.nn.Module = model.to(device).requires_grad_(False).eval()
        return frozen

    @cached_property
    def _tokenizer(self) -> PromptTokenizer:
        if self._tokenizer_of is None:
            tokenizer: PromptTokenizer = HfTokenizer(tiny_tokenizer(), label="backbone 'random-shape'")
        else:
            tokenizer = self._tokenizer_of.tokenizer()
        answer = tokenizer.answer
        used = [tokenizer.pad_id, answer.positive, answer.negative, *tokenizer.bos_ids]
        largest = max([*used, *_ids_of_text(tokenizer)])
        if largest >= self._settings.vocabulary_size:
            raise SpecError(
                f"backbone.vocabulary_size: {self._settings.vocabulary_size}, but the tokenizer gives id {largest}; "
                "give at least as many as the tokenizer has"
            )
        return tokenizer


def _ids_of_text(tokenizer: PromptTokenizer) -> list[int]:
    # Rare words have high ids: enough to tell a tokenizer of another size.
    return tokenizer.encode(" Koyaanisqatsi zeitgeist 映画 Übermensch xylophone 1999 quintessential")


def build(config: RandomShapeConfig, *, context: BuildContext) -> RandomShapeBackbone:
    """Makes the backbone; weights are drawn later.

    Raises:
        UnknownName: If `tokenizer_of` names no backbone.
    """
    other = None
    if config.tokenizer_of is not None:
        component = context.component("backbone", config.tokenizer_of.name)
        other = component.load_factory()(config.tokenizer_of, context=context)
    return RandomShapeBackbone(config, tokenizer_of=other)
