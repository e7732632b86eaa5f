"""Tiny random checkpoints of many architectures, as configs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers

SHAPE: dict[str, Any] = {
    "vocab_size": 440,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
}
GPT: dict[str, Any] = {"vocab_size": 440, "n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 1024}
MAMBA: dict[str, Any] = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 16,
}


def config(name: str, **more: Any) -> Any:
    return getattr(transformers, name)(**SHAPE, **more)


GEMMA = {"head_dim": 8, "query_pre_attn_scalar": 8}
SCALES = {"logits_scaling": 8.0, "embedding_multiplier": 12.0, "attention_multiplier": 0.1, "residual_multiplier": 0.2}
MIXED = ["mamba", "attention", "mamba", "attention"]
CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: config("LlamaConfig"),
    "qwen3": lambda: config("Qwen3Config", head_dim=8),
    "mistral-window": lambda: config("MistralConfig", sliding_window=32),
    "phi3": lambda: config("Phi3Config", pad_token_id=0),
    "olmo2": lambda: config("Olmo2Config"),
    "smollm3": lambda: config("SmolLM3Config", pad_token_id=0),
    "granite": lambda: config("GraniteConfig", **SCALES),
    "cohere": lambda: config("CohereConfig", logit_scale=0.0625, pad_token_id=0),
    "gemma2": lambda: config("Gemma2Config", **GEMMA),
    "gemma3": lambda: config("Gemma3TextConfig", sliding_window=32, **GEMMA),
    "lfm2": lambda: config("Lfm2Config", layer_types=["conv", "full_attention"] * 2),
    "granite-hybrid": lambda: config(
        "GraniteMoeHybridConfig", layer_types=MIXED, num_local_experts=0, shared_intermediate_size=64, **MAMBA
    ),
    "recurrent-gemma": lambda: config(
        "RecurrentGemmaConfig", lru_width=32, attention_window_size=512, block_types=["recurrent", "attention"]
    ),
    "nemotron": lambda: config("NemotronConfig", pad_token_id=0),
    "gpt2": lambda: transformers.GPT2Config(**GPT, bos_token_id=0, eos_token_id=0),
    "gptj": lambda: transformers.GPTJConfig(**GPT, rotary_dim=4),
    "bloom": lambda: transformers.BloomConfig(vocab_size=440, hidden_size=32, n_layer=4, n_head=4),
    "opt": lambda: transformers.OPTConfig(
        vocab_size=440, hidden_size=32, ffn_dim=64, num_hidden_layers=4, num_attention_heads=4, word_embed_proj_dim=32
    ),
}
# What these cannot share: their layers read neighbours, drop keywords, cap attention, or have no fused attention.
UNSHARED = {"gemma2", "lfm2", "granite-hybrid", "recurrent-gemma", "nemotron", "gptj", "bloom"}


def build(name: str) -> torch.nn.Module:
    """Returns a model with weights wide enough to tell right from wrong."""
    settings = CONFIGS[name]()
    capped = getattr(settings, "attn_logit_softcapping", None) is not None
    torch.manual_seed(0)
    try:
        kind = "eager" if capped else "sdpa"
        lm = transformers.AutoModelForCausalLM.from_config(settings, attn_implementation=kind)
    except ValueError:
        lm = transformers.AutoModelForCausalLM.from_config(settings, attn_implementation="eager")
    with torch.no_grad():
        for parameter in lm.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.15)
    return lm.float().eval().requires_grad_(False)
