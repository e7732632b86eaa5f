"""A byte-level BPE tokenizer written down, not trained: all bytes, and the beginnings of some frequent words."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PAD, BEGIN, END = "<pad>", "<s>", "</s>"
SPECIAL = (PAD, BEGIN, END)
# Each word, and so each of its beginnings, is one token with the space before it; all else is bytes. This makes the
# prompts of the usual wordings some three times shorter than bytes alone would.
WORDS = (
    "Yes No Answer with or A user has given high ratings to the following movies books games albums items movie book "
    "game album item Additionally we have information about preferences encoded in feature Using all available make "
    "prediction whether would enjoy titled none so far Film The of and"
)
_SPACE = "Ġ"


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Returns the tokenizer; it is the same on every machine and puts nothing before a text."""
    tokens = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges: list[tuple[str, str]] = []
    for word in WORDS.split():
        # Every merge grows a token that begins with a space, so the longest known beginning of a word wins.
        begin = _SPACE
        for letter in word:
            if begin + letter not in tokens:
                tokens.append(begin + letter)
                merges.append((begin, letter))
            begin += letter
    model = models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=merges)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, bos_token=BEGIN, eos_token=END)
