"""The longest prompts of a spec: in characters from titles alone, in tokens where the tokenizer is at hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from collm.contracts.data import SPLITS
from collm.contracts.prompt import PromptTemplate, Variant
from collm.data.columns import pieces
from collm.data.prepared import PreparedData, Rows
from collm.engine.prompt_lists import PromptLists
from collm.prompt.encode import EncodedPrompts
from collm.prompt.show import prompt_characters, prompt_text, shown_titles

Array = np.ndarray[Any, Any]

# Prompts that are tokenised to find the one with most tokens: it is among the longest texts, or nearly so.
CANDIDATES = 200


# Turns rows into token ids.
Encodes = Callable[[Rows], EncodedPrompts]


@dataclass(frozen=True)
class Wording:
    """What decides a prompt's text.

    Attributes:
        template: The wording.
        variant: `text` or `hybrid`.
        lists: What is listed of the past.
    """

    template: PromptTemplate
    variant: Variant
    lists: PromptLists


@dataclass(frozen=True)
class LongPrompt:
    """One of the longest prompts.

    Attributes:
        split: Its split.
        row: Source row.
        characters: Of the text with slots as `<user>` and `<item>`, without examples before it.
        tokens: After the rule that leaves the oldest titles out; None without a tokenizer.
        history: Titles that the history has.
        history_shown: Titles that fit; None without a tokenizer.
        text: The text with all titles.
    """

    split: str
    row: int
    characters: int
    tokens: int | None
    history: int
    history_shown: int | None
    text: str


def longest_prompts(data: PreparedData, wording: Wording, *, n: int, encode: Encodes | None = None) -> list[LongPrompt]:
    """Finds the rows with the longest prompts of all splits.

    Returns:
        Longest first: by tokens where they are counted, among the `CANDIDATES` with most characters of each split.
    """
    found: list[LongPrompt] = []
    for split in SPLITS:
        rows = data.rows(split)
        n_candidates = min(len(rows), n if encode is None else max(n, CANDIDATES))
        # Stable, so that of equally long ones the first in the source comes first.
        chosen = np.argsort(-_characters(data, rows, wording), kind="stable")[:n_candidates]
        found += _measured(data, rows.take(chosen), split, wording, encode)
    found.sort(key=lambda each: (-(each.tokens or 0), -each.characters))
    return found[:n]


def _characters(data: PreparedData, rows: Rows, wording: Wording) -> Array:
    counts = np.zeros(len(rows), dtype=np.int64)
    for part in pieces(len(rows)):
        some = rows.take(np.arange(part.start, part.stop))
        lists = wording.lists.read(data, some)
        counts[part] = prompt_characters(wording.template, wording.variant, data.titles, some.item, lists)
    return counts


def _measured(data: PreparedData, rows: Rows, split: str, wording: Wording, encode: Encodes | None) -> list[LongPrompt]:
    prompts = encode(rows) if encode is not None and len(rows) else None
    n_tokens = None if prompts is None else np.diff(prompts.offsets)
    found, lists = [], wording.lists.read(data, rows)
    for place in range(len(rows)):
        titles = shown_titles(lists, place, data.titles)
        text = prompt_text(wording.template, wording.variant, data.titles[int(rows.item[place])], titles)
        found.append(
            LongPrompt(
                split=split,
                row=int(rows.row[place]),
                characters=len(text),
                tokens=None if n_tokens is None else int(n_tokens[place]),
                history=len(titles),
                history_shown=None if prompts is None else int(prompts.n_history_used[place]),
                text=text,
            )
        )
    return found
