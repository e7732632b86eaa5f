"""Prompts as people read them, and how long they are, without a tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from collm.contracts.prompt import HistoryTitles, ItemSlot, PromptTemplate, TargetTitle, Text, UserSlot, Variant
from collm.prompt.template import clean_title

Array = np.ndarray[Any, Any]


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
            case TargetTitle():
                words.append(f"{opening}{quoted}{closing}" if template.quote_target else quoted)
            case UserSlot():
                words.append("<user>")
            case ItemSlot():
                words.append("<item>")
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
    lists_titles = any(isinstance(segment, HistoryTitles) for segment in template.segments(variant))
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
