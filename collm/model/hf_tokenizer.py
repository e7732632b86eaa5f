"""A Hugging Face tokenizer as the text side of a backbone: plain text in pieces, no special token ever recognised."""

from __future__ import annotations

import copy
import datetime
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from collm.contracts.backbone import ANSWER_WORDS, AnswerIds, ChatFrame
from collm.errors import DataError

# Cut before a space and after a word: a tokenizer that can be fed pieces gives the same ids for whole and parts.
_PROBES = (("Question", " item"), ("item", "."), ("titled", ' "Heat (1995)",'))
# A line break is one token of its own everywhere, so what follows it is encoded as if in the middle of a text.
_ANCHOR = "\n"
# How a space is written in the vocabularies of byte-level and SentencePiece tokenizers.
_SPACES = ("Ġ", "▁")
# What Llama 3's template prints where it knows no date: a prompt must not change from day to day. Templates ask for the
# date by `strftime_now`, which this macro of their language precedes.
DATE = datetime.datetime(2024, 7, 26, tzinfo=datetime.UTC)
_DIRECTIVES = "".join(f"|replace('%{each}','{DATE.strftime('%' + each)}')" for each in "aAbBdHIjmMpSyYzZ")
FIXED_DATE = f"{{% macro strftime_now(format) %}}{{{{ format{_DIRECTIVES} }}}}{{% endmacro %}}"


class HfTokenizer:
    """A `collm.contracts.backbone.PromptTokenizer` over any Hugging Face tokenizer.

    SentencePiece tokenizers put a space before whatever text they get. Here every text continues another, so those get
    each text behind a line break, whose ids are then taken off; a prompt begins without that extra space, too.
    """

    def __init__(self, tokenizer: Any, *, answer_space: bool | None = None, label: str = "tokenizer") -> None:
        """Finds out how the tokenizer takes pieces, what it puts before a text, and its answer ids.

        Args:
            tokenizer: A Hugging Face tokenizer, slow or fast.
            answer_space: Whether the answer words carry a leading space; None = yes, unless their first tokens are one
                and the same with it.
            label: What messages call it.

        Raises:
            DataError: If it cannot take text in pieces, or both answer words begin with the same token.
        """
        self._tokenizer, self._label, self._answer_space = tokenizer, label, answer_space
        self.chat: ChatFrame | None = None
        self._anchor_ids: list[int] = []
        if not self._takes_pieces():
            self._anchor_ids = self._raw([_ANCHOR])[0]
            if not self._takes_pieces():
                raise DataError(f"{label}: cannot encode a text in pieces; this kind of tokenizer is not supported")
        self._check_vocabulary()
        self.bos_ids = self._find_bos()
        self.pad_id = self._find_pad()
        self.answer = self._find_answer(answer_space)

    @property
    def adds_space(self) -> bool:
        """Whether the tokenizer itself puts a space before a text (SentencePiece)."""
        return bool(self._anchor_ids)

    @property
    def anchor(self) -> tuple[str, int]:
        """What comes before a text that continues another one, and its tokens, which are then taken off."""
        return (_ANCHOR if self._anchor_ids else "", len(self._anchor_ids))

    def in_chat(self, sample: str) -> HfTokenizer:
        """Returns the same tokenizer that puts prompts into the model's own chat template.

        The answer words carry a leading space where the template puts one before an assistant's words.

        Args:
            sample: A prompt, which the template must leave as it is.

        Raises:
            DataError: If there is no template, or it changes the prompt.
        """
        made = copy.copy(self)
        made.chat, spaced = chat_frame(self._tokenizer, sample, encode=self.encode, label=self._label)
        made.bos_ids = made.chat.before
        made.answer = self._find_answer(self._answer_space, first=spaced)
        return made

    def save(self, folder: Path) -> None:
        """Writes the tokenizer's files into a model folder."""
        self._tokenizer.save_pretrained(folder)

    def encode(self, text: str) -> list[int]:
        """Returns ids of plain text that continues another text."""
        return self.encode_many([text])[0]

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns `encode` of each text."""
        if not texts:
            return []
        if not self._anchor_ids:
            return self._raw(texts)
        n = len(self._anchor_ids)
        encoded = self._raw([_ANCHOR + text for text in texts])
        for text, ids in zip(texts, encoded, strict=True):
            if ids[:n] != self._anchor_ids:
                raise DataError(
                    f"{self._label}: {text!r} tokenizes differently after other text, so it cannot be encoded alone"
                )
        return [ids[n:] for ids in encoded]

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of the ids as the continuation of another text."""
        text: str = self._tokenizer.decode(
            [*self._anchor_ids, *ids], skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        # Some decoders drop the line break's own extra space, some keep it.
        return text.lstrip(" ").removeprefix(_ANCHOR) if self._anchor_ids else text

    def _raw(self, texts: Sequence[str]) -> list[list[int]]:
        encoded = self._tokenizer(
            list(texts),
            add_special_tokens=False,
            split_special_tokens=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        return [list(ids) for ids in encoded["input_ids"]]

    def _takes_pieces(self) -> bool:
        return all(self.encode(a + b) == self.encode(a) + self.encode(b) for a, b in _PROBES)

    def _check_vocabulary(self) -> None:
        """Accepts a tokenizer none of whose tokens reaches over the space before a word: half of the proof in `cut`."""
        vocabulary = self._tokenizer.get_vocab()
        mark = self._tokenizer.convert_ids_to_tokens(self.encode(" item"))[0][:1]
        if mark not in _SPACES:
            return
        over = re.compile(f"[^{mark}\\sĊċčĉ]{mark}")
        found = sorted((token for token in vocabulary if over.search(token)), key=vocabulary.__getitem__)
        texts = [str(self._tokenizer.convert_tokens_to_string([token])) for token in found]
        for token, text, ids in zip(found, texts, self._raw(texts) if texts else [], strict=True):
            # Some tokens are in a vocabulary and are never made, because the text is split before.
            if ids == [vocabulary[token]]:
                raise DataError(
                    f"{self._label}: its token {text!r} spans a space, so prompts cannot be encoded in pieces; "
                    "this kind of tokenizer is not supported"
                )

    def _find_bos(self) -> tuple[int, ...]:
        """Returns what the tokenizer itself puts before a text (fact 4)."""
        plain = self._raw(["item"])[0]
        full = list(self._tokenizer("item")["input_ids"])
        for at in range(len(full) - len(plain) + 1):
            if full[at : at + len(plain)] == plain:
                return tuple(full[:at])
        return ()

    def _find_pad(self) -> int:
        for role in ("pad_token_id", "eos_token_id", "unk_token_id"):
            number = getattr(self._tokenizer, role, None)
            if number is not None:
                return int(number)
        return 0

    def _find_answer(self, answer_space: bool | None, *, first: bool = True) -> AnswerIds:
        for space in (first, not first) if answer_space is None else (answer_space,):
            words = tuple(f" {word}" if space else word for word in ANSWER_WORDS)
            begin = [ids[0] if ids else -1 for ids in self.encode_many(words)]
            if begin[0] != begin[1] and min(begin) >= 0:
                return AnswerIds(words[0], words[1], begin[0], begin[1])
        raise DataError(
            f"{self._label}: the answer words {words[0]!r} and {words[1]!r} begin with the same token (id {begin[0]}), "
            "so one position cannot tell them apart; use another answer_space or another model"
        )


def chat_frame(
    tokenizer: Any, sample: str, *, encode: Callable[[str], list[int]], label: str
) -> tuple[ChatFrame, bool]:
    """Finds what a chat template puts around prompts, by where a sample appears in the ids of the whole text.

    Args:
        tokenizer: A Hugging Face tokenizer.
        sample: A prompt.
        encode: Gives the ids of a text that continues another one.
        label: What messages call the tokenizer.

    Returns:
        The frame, and whether the template puts a space before the words of an assistant.

    Raises:
        DataError: If there is no template, or the sample's ids do not appear in those of the whole.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise DataError(f"{label}: has no chat template, which prompt.chat asks for; use prompt.chat: false")
    turns = [{"role": "user", "content": sample}]
    try:
        text = _render(tokenizer, turns, ask=True)
        answered = _render(tokenizer, [*turns, {"role": "assistant", "content": ANSWER_WORDS[0]}], ask=False)
    except (TemplateError, TypeError, ValueError) as error:
        raise DataError(f"{label}: its chat template cannot be filled in: {error}; use prompt.chat: false") from error
    whole = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    for opening in ("", " "):
        ids = encode(opening + sample)
        for start in range(len(whole) - len(ids) + 1):
            if whole[start : start + len(ids)] == ids:
                frame = ChatFrame(tuple(whole[:start]), opening, tuple(whole[start + len(ids) :]))
                return frame, _has_space(text, answered)
    raise DataError(
        f"{label}: its chat template changes the prompt's words or has no token boundary around them, so slots would "
        f"be at other positions than computed; use prompt.chat: false. It renders {text!r}"
    )


def _render(tokenizer: Any, turns: list[dict[str, str]], *, ask: bool) -> str:
    template = FIXED_DATE + tokenizer.get_chat_template()
    text: str = tokenizer.apply_chat_template(
        turns, chat_template=template, tokenize=False, add_generation_prompt=ask, enable_thinking=False
    )
    return text


def _has_space(asked: str, answered: str) -> bool:
    if answered.startswith(asked):
        return answered[len(asked) :].startswith(" ")
    # The template writes finished turns otherwise; words follow a word behind a space.
    return asked[-1:].isalnum() or asked.endswith(":")
