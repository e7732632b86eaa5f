"""Tiny model folders of the paper's two kinds, made with the real classes: Llama as Vicuna is, and Qwen2."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

WORDS = (
    "Question A user has given high ratings to the following movies Using all available information make prediction "
    "whether would enjoy titled with feature Answer Yes No Heat Toy Story Alien item Additionally encoded"
)
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


def corpus() -> list[str]:
    generator = random.Random(0)
    return [
        f'#Question: {" ".join(generator.choices(WORDS.split(), k=8))} "Heat (1995)", "Alien (1979)". #Answer: '
        + generator.choice(["Yes", "No"])
        for _ in range(300)
    ]


def write_llama(folder: Path) -> Path:
    """Writes a Llama whose tokenizer is one SentencePiece file, as Vicuna's is."""
    sentencepiece = pytest.importorskip("sentencepiece")
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()),
        model_writer=written,
        vocab_size=420,
        hard_vocab_limit=False,
        model_type="bpe",
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        pad_id=-1,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(written.getvalue())
    settings = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "legacy": False, "pad_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(vocab_size=420, bos_token_id=1, eos_token_id=2, **SHAPE)).save_pretrained(folder)
    return folder


def write_qwen2(folder: Path) -> Path:
    """Writes a Qwen2 with byte-level BPE and special tokens outside of the vocabulary; tied embeddings."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<|endoftext|>", eos_token="<|im_end|>")
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    Qwen2ForCausalLM(Qwen2Config(vocab_size=len(fast), tie_word_embeddings=True, **SHAPE)).save_pretrained(folder)
    return folder
