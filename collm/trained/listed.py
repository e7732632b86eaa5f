"""What prompts of a run list: the titles in them; in an export also disliked items, labels in words, ages."""

from __future__ import annotations

from typing import Any

import numpy as np

from collm.contracts.prompt import PromptTemplate, Variant
from collm.data.prepared import PreparedData, Rows
from collm.engine.prompt_lists import PromptLists
from collm.prompt.lists import AGES, empty_words
from collm.spec.sections import HistoryConfig
from collm.trained.model import TrainedModel

Titles = tuple[str, ...]


def titles_in_prompts(model: TrainedModel, data: PreparedData, rows: Rows) -> list[tuple[Titles, Titles]]:
    """Returns the liked and the disliked titles that the prompt of each row holds, oldest first.

    Titles that do not fit into the prompt, or have no place in it, are left out.

    Args:
        model: A run with a language model.
        data: The data with the histories of the rows, under the dataset's own titles.
        rows: The rows.
    """
    source = model.source.on(data)
    lists, n_used = source.lists.read(data, rows), source.encode(rows).prompts.n_history_used
    width = lists.items.shape[1]
    used = np.arange(width) >= width - n_used[:, None]
    found = [used & lists.shown(shows) for shows in ("liked", "disliked")]

    def titles(row: int, shown: np.ndarray[Any, Any]) -> Titles:
        return tuple(data.titles[int(item)] for item in lists.items[row, shown[row]])

    return [(titles(row, found[0]), titles(row, found[1])) for row in range(len(rows))]


def lists_card(model: TrainedModel, template: PromptTemplate, variant: Variant) -> dict[str, Any]:
    """Returns what a prompt's lists say beside liked titles; nothing where they are all."""
    history, card = model.spec.history, {}
    if history.include == "both":
        together = {} if history.max_rated is None else {"rated_items": history.max_rated}
        card = together | {"disliked_items": history.n_disliked, "empty_disliked": empty_words(template, "disliked")}
    if "rated" in template.lists(variant):
        card |= {"liked_word": template.liked_word, "disliked_word": template.disliked_word}
    return card | ({"ages": list(AGES)} if history.ages else {})


def past_of(model: TrainedModel, rows: Rows) -> list[list[list[Any]]]:
    """Returns what prompts list of each row, oldest first: [id, label, age in words or null]; empty for likes alone."""
    history, data = model.spec.history, model.data
    if history.include == "liked" and not history.ages:
        return []
    lists = PromptLists.of(history, data).read(data, rows)
    liked = lists.shown("liked")
    return [
        [
            [
                data.item_ids[int(lists.items[row, at])],
                int(liked[row, at]),
                None if lists.age is None else AGES[int(lists.age[row, at])],
            ]
            for at in np.flatnonzero(lists.items[row])
        ]
        for row in range(len(rows))
    ]


def lists_fault(history: HistoryConfig) -> str:
    """Says why `score.py` cannot build what prompts list, empty where it can."""
    if history.include == "both":
        return "the prompt lists disliked items (history.include: both), which rows of score.py do not have"
    if history.ages:
        return "the prompt says how long ago items were rated (history.ages), which rows of score.py do not have"
    return ""
