"""The `tiny` backbone: a real Llama class with seeded random weights."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from collm.component import BuildContext
from collm.model.hf_backbone import describe_model
from collm.model.hf_tokenizer import HfTokenizer
from collm_tiny.config import TinyConfig
from collm_tiny.tokenizer import tiny_tokenizer

MAX_LENGTH = 4096


class TinyBackbone:
    """A `collm.contracts.backbone.Backbone` that needs no file.

    Attributes:
        hidden_size: Width of the token embeddings.
        max_length: Longest sequence, in tokens.
        lora_targets: Modules that LoRA adapts.
    """

    def __init__(self, *, hidden_size: int, n_layers: int, seed: int) -> None:
        """Takes width, depth and the seed of the weights."""
        self.hidden_size, self.max_length = hidden_size, MAX_LENGTH
        self.lora_targets = ("q_proj", "v_proj")
        self._seed = seed
        tokenizer = tiny_tokenizer()
        self._tokenizer = HfTokenizer(tokenizer, label="backbone 'tiny'")
        self._vocabulary = tokenizer.get_vocab()
        self._config = LlamaConfig(
            vocab_size=len(self._vocabulary),
            hidden_size=hidden_size,
            intermediate_size=2 * hidden_size,
            num_hidden_layers=n_layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=MAX_LENGTH,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            attn_implementation="sdpa",
        )

    def content_hash(self) -> str:
        """Returns a hex digest of everything that decides the weights and the tokenizer."""
        content = [self._seed, self.hidden_size, self._config.num_hidden_layers, sorted(self._vocabulary.items())]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        """Returns architecture and parameter counts."""
        facts = describe_model(self._config, tokenizer=self._tokenizer)
        return facts | {"quantisation": None, "weights": f"random, seed {self._seed}: scores mean nothing"}

    def tokenizer(self) -> HfTokenizer:
        """Returns the tokenizer."""
        return self._tokenizer

    def load(self, *, dtype: torch.dtype, device: torch.device) -> torch.nn.Module:
        """Returns the frozen model in eval mode; torch's global generator is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            model: torch.nn.Module = LlamaForCausalLM(self._config)
        return model.to(dtype=dtype, device=device).requires_grad_(False).eval()


def build(config: TinyConfig, *, context: BuildContext) -> TinyBackbone:
    """Makes the backbone; nothing is read or fetched."""
    del context
    return TinyBackbone(hidden_size=config.hidden_size, n_layers=config.n_layers, seed=config.seed)
