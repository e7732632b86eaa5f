"""The model's own chat template around a prompt, as token ids: what stands before it and what behind it."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

from jinja2 import TemplateError

from collm.contracts.backbone import ANSWER_WORDS, ChatFrame
from collm.errors import DataError

# What Llama 3's template prints where it knows no date: a prompt must not change from day to day. Templates ask for the
# date by `strftime_now`, which this macro of their language stands in front of.
DATE = datetime.datetime(2024, 7, 26, tzinfo=datetime.UTC)
_DIRECTIVES = "".join(f"|replace('%{each}','{DATE.strftime('%' + each)}')" for each in "aAbBdHIjmMpSyYzZ")
FIXED_DATE = f"{{% macro strftime_now(format) %}}{{{{ format{_DIRECTIVES} }}}}{{% endmacro %}}"


def chat_frame(
    tokenizer: Any, sample: str, *, encode: Callable[[str], list[int]], label: str
) -> tuple[ChatFrame, bool]:
    """Finds what a chat template puts around prompts, by where a sample stands in the ids of the whole text.

    Args:
        tokenizer: A Hugging Face tokenizer.
        sample: A prompt.
        encode: Gives the ids of a text that continues another one.
        label: What messages call the tokenizer.

    Returns:
        The frame, and whether the template puts a space before the words of an assistant.

    Raises:
        DataError: If there is no template, or the sample's ids do not stand in those of the whole.
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
        f"{label}: its chat template changes the words of the prompt or melts into them, so the prompt's slots would "
        f"not stand where they are counted; use prompt.chat: false. It makes {text!r}"
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
