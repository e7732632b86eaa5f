"""What an export says of prompts that list more than liked titles: disliked items, labels in words, ages."""

from __future__ import annotations

from typing import Any

import numpy as np

from collm.contracts.prompt import PromptTemplate, Variant
from collm.data.prepared import Rows
from collm.engine.prompt_lists import PromptLists
from collm.prompt.lists import AGES, empty_words
from collm.spec.sections import HistoryConfig
from collm.trained.model import TrainedModel


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
