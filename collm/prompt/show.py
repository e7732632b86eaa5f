"""One row's prompt for people: text with its slots marked, tokens, lengths, for both variants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np

from collm.contracts.backbone import PromptTokenizer
from collm.contracts.prompt import HistoryItems, HistoryTitles, PromptTemplate, Slot, TargetTitle, Text, Variant
from collm.prompt.encode import EncodedPrompts, PromptEncoder
from collm.prompt.template import clean_title

Array = np.ndarray[Any, Any]


def show_prompts(encoder: PromptEncoder, item: int, history: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Encodes one row as tuning and scoring do, and turns it back into text.

    Args:
        encoder: The encoder.
        item: Target item.
        history: Item ids, oldest first, left-padded with 0.

    Returns:
        Variant -> JSON-able facts, see `describe_prompt`.
    """
    items, histories = np.array([item]), np.array([list(history)], dtype=np.int64)
    return {
        variant: describe_prompt(encoder.encode(items, histories, variant), 0, encoder.tokenizer)
        for variant in get_args(Variant)
    }


def describe_prompt(prompts: EncodedPrompts, index: int, tokenizer: PromptTokenizer) -> dict[str, Any]:
    """Returns the facts about one encoded prompt, JSON-able.

    Args:
        prompts: Encoded prompts.
        index: Which of them.
        tokenizer: The tokenizer that they were encoded with.

    Returns:
        `text` with the slots as `<user>` and `<item>`, `n_tokens`, `tokens` (`[id, text]` each), `slots` (name ->
        positions), `history_titles`, `shared` and `before_user` (leading tokens).
    """
    ids = [int(number) for number in prompts.prompt(index)]
    sides = {name: places[index][places[index] >= 0] for name, places in prompts.slots.items()}
    sides = sides or {"user": ids[:0], "item": ids[:0]}
    marks = {int(at): f"<{side}>" for side, slots in sides.items() for at in slots}
    return {
        "text": marked_text(ids, marks, tokenizer),
        "n_tokens": len(ids),
        "tokens": [[number, marks.get(at) or tokenizer.decode([number])] for at, number in enumerate(ids)],
        "slots": {side: [int(at) for at in slots] for side, slots in sides.items()},
        "history_titles": int(prompts.n_history_used[index]),
        "shared": int(prompts.shared[index]),
        "before_user": int(prompts.before_user[index]),
    }


def marked_text(ids: Sequence[int], marks: Mapping[int, str], tokenizer: PromptTokenizer) -> str:
    """Decodes the stretches between slots; a slot's placeholder id means nothing and is never decoded.

    Args:
        ids: Token ids of one prompt.
        marks: Position -> what is shown there.
        tokenizer: The tokenizer that the ids come from.
    """
    parts: list[str] = []
    start = 0
    for at in sorted(marks):
        before = tokenizer.decode(list(ids[start:at]))
        # The vector stands for a word with its space.
        parts += [before, " " if before[-1:].isalnum() else "", marks[at]]
        start = at + 1
    return "".join([*parts, tokenizer.decode(list(ids[start:]))])


def prompt_text(template: PromptTemplate, variant: Variant, target: str, history: Sequence[str]) -> str:
    """Writes a prompt out in full, with slots as `<user>` and `<item>`.

    Args:
        template: What is said.
        variant: `text` or `hybrid`.
        target: Title of the target item.
        history: Titles of the history, oldest first.
    """
    opening, closing = template.title_open, template.title_close
    titles = [_history_title(template, title) for title in history]
    listed = template.title_join.join(f"{opening}{title}{closing}" for title in titles)
    quoted = clean_title(target).strip()
    words: list[str] = []
    for segment in template.segments(variant):
        match segment:
            case Text(text=text):
                words.append(text)
            case HistoryTitles():
                words.append(listed or template.empty_history)
            case HistoryItems(name=name):
                marked = template.title_join.join(f"{opening}{title}{closing} <{name}>" for title in titles)
                words.append(marked or template.empty_history)
            case TargetTitle():
                words.append(f"{opening}{quoted}{closing}" if template.quote_target else quoted)
            case Slot(name=name):
                words.append(f"<{name}>")
    return "".join(words)


def prompt_characters(
    template: PromptTemplate, variant: Variant, titles: Sequence[str], items: Array, histories: Array
) -> Array:
    """Counts the characters of prompts as `prompt_text` writes them, each title measured once.

    Args:
        template: What is said.
        variant: `text` or `hybrid`.
        titles: Title by item id.
        items: int64 [n] target items.
        histories: int64 [n, length] item ids, left-padded with 0.

    Returns:
        int64 [n].
    """
    n_marks = len(template.title_open) + len(template.title_close)
    fixed = len(prompt_text(template, variant, "", ()))
    segments = template.segments(variant)
    lists_titles = any(isinstance(segment, HistoryTitles | HistoryItems) for segment in segments)
    n_marks += sum(len(f" <{segment.name}>") for segment in segments if isinstance(segment, HistoryItems))
    clean = [clean_title(title) for title in titles]
    as_target = np.array([len(title.strip()) for title in clean], dtype=np.int64)
    lengths = fixed + as_target[items]
    if not lists_titles or not histories.shape[1]:
        return lengths
    as_history = np.array([len(_history_title(template, title)) for title in titles], dtype=np.int64)
    present = histories != 0
    n_titles = present.sum(axis=1)
    listed = np.where(present, as_history[histories] + n_marks, 0).sum(axis=1)
    listed += np.maximum(n_titles - 1, 0) * len(template.title_join)
    return lengths + np.where(n_titles > 0, listed - len(template.empty_history), 0)


def _history_title(template: PromptTemplate, title: str) -> str:
    clean = clean_title(title)
    return clean.strip() if template.strip_history_titles else clean
