"""Questions to a finished run in its dataset's own numbers, several of which are scored together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class AskedPairs:
    """The pairs of one question.

    Attributes:
        user: int64 [n] dense ids, 0 = unknown.
        item: int64 [n] dense ids; those above the dataset's items count into `extra_titles`.
        moment: int64 [n] when each pair is asked, in the seconds that the dataset counts in.
        extra_titles: Titles of the items that the dataset does not know.
    """

    user: Array
    item: Array
    moment: Array
    extra_titles: tuple[str, ...] = ()


def joined(questions: Sequence[AskedPairs], n_items: int) -> AskedPairs:
    """Returns the pairs of several questions, one after the other; each question keeps its own extra titles.

    Args:
        questions: At least one.
        n_items: Items of the dataset, without padding.
    """
    items: list[Array] = []
    titles: list[str] = []
    for question in questions:
        items.append(np.where(question.item > n_items, question.item + len(titles), question.item))
        titles += question.extra_titles
    return AskedPairs(
        user=np.concatenate([question.user for question in questions]),
        item=np.concatenate(items),
        moment=np.concatenate([question.moment for question in questions]),
        extra_titles=tuple(titles),
    )
