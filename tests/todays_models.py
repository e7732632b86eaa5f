"""Tiny random checkpoints of today's model families: their config classes, kinds of tokenizers and chat templates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from model_folders import corpus
from tiny_architectures import GEMMA, SHAPE
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

# How the byte-level tokenizers of Llama 3 and Qwen split a text.
_SPLIT = Regex(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_DATED = "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
CHATS = {
    "llama3": "{{ bos_token }}"
    + _DATED
    + "<|start_header_id|>system<|end_header_id|>\n\nToday Date: {{ date_string }}\n\n"
    "<|eot_id|>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}"
    "<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
    "chatml": _CHATML,
    "qwen3": _CHATML.replace(
        "assistant\n{% endif %}",
        "assistant\n{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
        "{% endif %}",
    ),
    "smollm3": "{{ '<|im_start|>system\nToday Date: ' + strftime_now('%d %B %Y') + '<|im_end|>\n' }}" + _CHATML,
    "gemma": "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
    "mistral": "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }}[/INST]"
    "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}",
    "phi3": "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}",
    "olmo2": "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}"
    "{{ eos_token if m.role == 'assistant' else '' }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
}


@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        config: Makes the model's config of a vocabulary size.
        kind: How the tokenizer splits: `bytes` (byte-level BPE), `gemma` or `metaspace` (SentencePiece's pieces).
        special: Tokens outside of the text; the first comes before texts where `adds_bos`.
        adds_bos: Whether the tokenizer puts its first special token before a text.
        eos: The end token, which also pads where `pad` is None.
        pad: The padding token.
        chat: Name of its chat template; empty where it has none.
        shares: Whether prompts share their beginnings.
        lora: Modules that adapters sit on by default.
        window: Length of the local attention window; None = all layers are global.
    """

    config: Callable[..., Any]
    kind: str
    special: tuple[str, ...]
    adds_bos: bool
    eos: str
    pad: str | None
    chat: str = ""
    shares: bool = True
    lora: tuple[str, ...] = ("q_proj", "v_proj")
    window: int | None = None
    more: dict[str, Any] = field(default_factory=dict)


_LLAMA3 = ("<|begin_of_text|>", "<|eot_id|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>")
_QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
_SENTENCEPIECE = ("<s>", "</s>", "<unk>")
_PHI3 = (*_SENTENCEPIECE, "<|user|>", "<|assistant|>", "<|end|>", "<|system|>")
_GEMMA = ("<bos>", "<eos>", "<pad>", "<unk>", "<start_of_turn>", "<end_of_turn>")
T = transformers
ROPE3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
ROPE3 |= {"original_max_position_embeddings": 256, "rope_theta": 500000.0}
FAMILIES: dict[str, Family] = {
    "llama-3.2": Family(
        T.LlamaConfig, "bytes", _LLAMA3, True, "<|eot_id|>", None, "llama3",
        more={"tie_word_embeddings": True, "rope_parameters": ROPE3},
    ),
    "qwen2.5": Family(T.Qwen2Config, "bytes", _QWEN, False, "<|im_end|>", "<|endoftext|>", "chatml"),
    "qwen3": Family(T.Qwen3Config, "bytes", _QWEN, False, "<|im_end|>", "<|endoftext|>", "qwen3", more={"head_dim": 8}),
    "smollm2": Family(T.LlamaConfig, "bytes", _QWEN, False, "<|im_end|>", "<|im_end|>", "chatml"),
    "smollm3": Family(T.SmolLM3Config, "bytes", _QWEN, False, "<|im_end|>", None, "smollm3"),
    "gemma-3": Family(
        T.Gemma3TextConfig, "gemma", _GEMMA, True, "<eos>", "<pad>", "gemma", window=32,
        more={"sliding_window": 32, **GEMMA},
    ),
    "gemma-2": Family(
        T.Gemma2Config, "gemma", _GEMMA, True, "<eos>", "<pad>", "gemma", shares=False,
        more={"sliding_window": 32, **GEMMA},
    ),
    "mistral-0.1": Family(
        T.MistralConfig, "metaspace", _SENTENCEPIECE, True, "</s>", None, window=32, more={"sliding_window": 32}
    ),
    "mistral-0.3": Family(
        T.MistralConfig, "metaspace", (*_SENTENCEPIECE, "[INST]", "[/INST]"), True, "</s>", None, "mistral",
        more={"sliding_window": None},
    ),
    "phi-2": Family(T.PhiConfig, "bytes", ("<|endoftext|>",), False, "<|endoftext|>", None),
    "phi-3": Family(T.Phi3Config, "metaspace", _PHI3, False, "<|end|>", "<|end|>", "phi3", lora=("qkv_proj",)),
    "olmo-2": Family(T.Olmo2Config, "bytes", ("<|endoftext|>", "<|pad|>"), False, "<|endoftext|>", "<|pad|>", "olmo2"),
}  # fmt: skip


def write_folder(name: str, folder: Path) -> PreTrainedTokenizerFast:
    """Writes a checkpoint of a family with weights wide enough to tell right from wrong; returns its tokenizer."""
    family = FAMILIES[name]
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(family)
    tokenizer.save_pretrained(folder)
    ids = {f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in ("bos", "eos", "pad")}
    shape = SHAPE | {"vocab_size": len(tokenizer)}
    torch.manual_seed(0)
    lm = AutoModelForCausalLM.from_config(family.config(**shape, **ids, **family.more))
    with torch.no_grad():
        for parameter in lm.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.15)
    lm.save_pretrained(folder)
    return tokenizer


def _tokenizer(family: Family) -> PreTrainedTokenizerFast:
    plain = Tokenizer(models.BPE(byte_fallback=family.kind != "bytes", unk_token=None))
    alphabet: list[str] = []
    if family.kind == "bytes":
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        split = pre_tokenizers.Split(_SPLIT, "isolated")
        plain.pre_tokenizer = pre_tokenizers.Sequence(
            [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        plain.decoder = decoders.ByteLevel()
    else:
        prefix = [normalizers.Prepend("▁")] if family.kind == "metaspace" else []
        plain.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", "▁")])
        # Merges must not reach over a word's space, as in SentencePiece with split_by_whitespace.
        plain.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
        strip = [decoders.Strip(content=" ", left=1)] if prefix else []
        plain.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
        )
    bytes_ = [f"<0x{number:02X}>" for number in range(256)] if family.kind != "bytes" else []
    trainer = trainers.BpeTrainer(
        vocab_size=720 if bytes_ else 420,
        initial_alphabet=alphabet,
        special_tokens=[*bytes_, "\n"],
        show_progress=False,
    )
    plain.train_from_iterator(corpus(), trainer)
    return _wrapped(family, plain)


def _wrapped(family: Family, plain: Tokenizer) -> PreTrainedTokenizerFast:
    plain.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in family.special])
    first = family.special[0]
    if family.adds_bos:
        number = plain.token_to_id(first)
        plain.post_processor = processors.TemplateProcessing(single=f"{first} $A", special_tokens=[(first, number)])
    return PreTrainedTokenizerFast(
        tokenizer_object=plain,
        bos_token=first,
        eos_token=family.eos,
        pad_token=family.pad,
        chat_template=CHATS.get(family.chat),
        clean_up_tokenization_spaces=False,
    )
