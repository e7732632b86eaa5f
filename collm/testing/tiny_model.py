"""A Hugging Face model folder of a few kilobytes, for tests of backbones: random weights, a tokenizer of bytes."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from collm.testing.fakes import tiny_language_model

SPECIAL = ("<pad>", "<s>", "</s>")


def write_tiny_model(folder: Path, *, seed: int = 0) -> None:
    """Writes a random Llama with its tokenizer as `save_pretrained` does.

    Args:
        folder: Existing folder.
        seed: Seed of the weights.
    """
    tokens = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    pad, begin, end = SPECIAL
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad, bos_token=begin, eos_token=end)
    wrapped.save_pretrained(folder)
    model = tiny_language_model(vocabulary_size=len(tokens), seed=seed)
    model.save_pretrained(folder)  # type: ignore[operator]
