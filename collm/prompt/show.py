"""One row's prompt for people: text with its slots marked, tokens, lengths, for both variants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from collm.contracts.backbone import PromptTokenizer
from collm.contracts.prompt import PromptTemplate, Shows, Slot, TargetTitle, Text, TitleList, TitleSlots, Variant
from collm.prompt.encode import EncodedPrompts, PromptEncoder
from collm.prompt.lists import AGES, TitleLists, empty_words, title_marks, words_behind
from collm.prompt.template import clean_title

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ShownTitle:
    """A title of a user's past.

    Attributes:
        title: The title.
        liked: Its label.
        age: One of `collm.prompt.lists.AGES`; empty = not said.
    """

    title: str
    liked: bool = True
    age: str = ""


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


def prompt_text(template: PromptTemplate, variant: Variant, target: str, history: Sequence[str | ShownTitle]) -> str:
    """Writes a prompt out in full, with slots as `<user>` and `<item>`.

    Args:
        template: What is said.
        variant: `text` or `hybrid`.
        target: Title of the target item.
        history: What is known of the past, oldest first; a title alone is a liked one.
    """
    past = [ShownTitle(each) if isinstance(each, str) else each for each in history]
    quoted = clean_title(target).strip()
    marks = (template.title_open, template.title_close) if template.quote_target else ("", "")
    words: list[str] = []
    for segment in template.segments(variant):
        match segment:
            case Text(text=text):
                words.append(text)
            case TargetTitle():
                words.append(f"{marks[0]}{quoted}{marks[1]}")
            case Slot(name=name) if not isinstance(segment, TitleSlots):
                words.append(f"<{name}>")
            case _:
                slot = segment.name if isinstance(segment, TitleSlots) else ""
                words.append(_listed(template, segment.shows, past, slot))
    return "".join(words)


def shown_titles(lists: TitleLists, row: int, titles: Sequence[str]) -> list[ShownTitle]:
    """Returns what `prompt_text` takes of one row.

    Args:
        lists: What the rows' prompts list.
        row: Which of them.
        titles: Title by item id.
    """
    return [
        ShownTitle(
            titles[int(lists.items[row, at])],
            liked=lists.liked is None or bool(lists.liked[row, at]),
            age="" if lists.age is None else AGES[int(lists.age[row, at])],
        )
        for at in np.flatnonzero(lists.items[row])
    ]


def prompt_characters(
    template: PromptTemplate, variant: Variant, titles: Sequence[str], items: Array, histories: Array | TitleLists
) -> Array:
    """Counts the characters of prompts as `prompt_text` writes them, each title measured once.

    Args:
        template: What is said.
        variant: `text` or `hybrid`.
        titles: Title by item id.
        items: int64 [n] target items.
        histories: What is listed: int64 [n, length] item ids, left-padded with 0, or lists.

    Returns:
        int64 [n].
    """
    lists = TitleLists.of(histories)
    fixed = len(prompt_text(template, variant, "", ()))
    as_target = np.array([len(clean_title(title).strip()) for title in titles], dtype=np.int64)
    lengths = fixed + as_target[items]
    segments = [each for each in template.segments(variant) if isinstance(each, TitleList | TitleSlots)]
    if not segments or not lists.items.shape[1]:
        return lengths
    as_history = np.array([len(_history_title(template, title)) for title in titles], dtype=np.int64)
    n_marks = len(template.title_open) + len(template.title_close)
    for segment in segments:
        shown = lists.shown(segment.shows)
        each = as_history[lists.items] + n_marks
        each += len(f" <{segment.name}>") if isinstance(segment, TitleSlots) else 0
        if (numbers := lists.behind(segment.shows)) is not None:
            each += np.array([len(words) for words in lists.words(template, segment.shows)])[numbers]
        n_titles = shown.sum(axis=1)
        listed = np.where(shown, each, 0).sum(axis=1) + np.maximum(n_titles - 1, 0) * len(template.title_join)
        lengths = lengths + np.where(n_titles > 0, listed - len(empty_words(template, segment.shows)), 0)
    return lengths


def _listed(template: PromptTemplate, shows: Shows, past: Sequence[ShownTitle], slot: str) -> str:
    """Writes one list out in full."""
    chosen = [each for each in past if shows == "rated" or each.liked == (shows == "liked")]
    titles = [_history_title(template, each.title) for each in chosen]
    behind = [words_behind(template, shows, liked=each.liked, age=each.age) for each in chosen]
    return title_marks(template, titles, behind, slot) or empty_words(template, shows)


def _history_title(template: PromptTemplate, title: str) -> str:
    clean = clean_title(title)
    return clean.strip() if template.strip_history_titles else clean
