"""The lists of titles in prompts: which items, whether liked, how long ago; and what follows a title in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from collm.contracts.prompt import PromptTemplate, Shows

Array = np.ndarray[Any, Any]
DAY, WEEK, MONTH, YEAR = 86_400, 7 * 86_400, 30 * 86_400, 365 * 86_400
_LAST_YEARS = 10


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}{'s' if number > 1 else ''} ago"


# Age in words by bucket: days up to 6, weeks of 7 days up to 4, months of 30 days up to 11, years of 365 days.
AGES: tuple[str, ...] = (
    "today",
    *(_counted(number, "day") for number in range(1, 7)),
    *(_counted(number, "week") for number in range(1, 5)),
    *(_counted(number, "month") for number in range(1, 12)),
    *(_counted(number, "year") for number in range(1, _LAST_YEARS)),
    f"{_LAST_YEARS} or more years ago",
)
_FIRST_SECOND = np.array(
    [
        *(number * DAY for number in range(7)),
        *(number * WEEK for number in range(1, 5)),
        *(number * MONTH for number in range(1, 12)),
        *(number * YEAR for number in range(1, _LAST_YEARS + 1)),
    ],
    dtype=np.int64,
)


@dataclass(frozen=True)
class TitleLists:
    """What prompts list of each row's past.

    Attributes:
        items: int64 [n, length] item ids, oldest first, left-padded with 0.
        liked: bool [n, length] whether each is a liked one; None = all are.
        age: int64 [n, length] place in `AGES` of how long ago each was rated; None = prompts do not say it.
    """

    items: Array
    liked: Array | None = None
    age: Array | None = None

    @classmethod
    def of(cls, histories: Array | TitleLists) -> TitleLists:
        """Returns lists as they are, and histories as lists of liked items."""
        return histories if isinstance(histories, TitleLists) else cls(np.asarray(histories, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.items)

    def rows(self, part: slice) -> TitleLists:
        """Returns those of some rows."""
        liked, age = (None if each is None else each[part] for each in (self.liked, self.age))
        return TitleLists(self.items[part], liked, age)

    def shown(self, shows: Shows) -> Array:
        """Returns bool [n, length]: which entries appear in a list."""
        present: Array = self.items != 0
        if self.liked is None:
            return present if shows != "disliked" else np.zeros_like(present)
        return present if shows == "rated" else present & (self.liked == (shows == "liked"))

    def keys(self) -> Array:
        """Returns int64 [n, k]: rows whose lists read alike have equal ones."""
        parts = [self.items, *(each for each in (self.liked, self.age) if each is not None)]
        return np.concatenate([part.astype(np.int64) for part in parts], axis=1)

    def behind(self, shows: Shows) -> Array | None:
        """Returns int64 [n, length]: which words follow each title, see `words_behind`; None where none do."""
        if shows != "rated" and self.age is None:
            return None
        liked = np.zeros_like(self.items) if self.liked is None else (~self.liked).astype(np.int64)
        return liked * len(AGES) + (0 if self.age is None else self.age)

    def words(self, template: PromptTemplate, shows: Shows) -> list[str]:
        """Returns what follows a title, by the numbers of `behind`."""
        aged = AGES if self.age is not None else ("",) * len(AGES)
        return [words_behind(template, shows, liked=liked, age=age) for liked in (True, False) for age in aged]


def words_behind(template: PromptTemplate, shows: Shows, *, liked: bool, age: str = "") -> str:
    """Returns what follows a title: its label in a list of both, its age, or nothing.

    Args:
        template: Has the words of the labels.
        shows: The list in which the title appears.
        liked: Its label.
        age: One of `AGES`; empty = not said.
    """
    label = (template.liked_word if liked else template.disliked_word) if shows == "rated" else ""
    said = ", ".join(filter(None, (label, age)))
    return f" ({said})" if said else ""


def age_buckets(seconds: Array) -> Array:
    """Returns int64 places in `AGES` of int64 ages in seconds; what is younger than a day is of today."""
    return np.searchsorted(_FIRST_SECOND, np.maximum(seconds, 0), side="right") - 1


def empty_words(template: PromptTemplate, shows: Shows) -> str:
    """Returns what appears where a list has no title."""
    return template.empty_disliked if shows == "disliked" else template.empty_history


def title_marks(template: PromptTemplate, titles: Sequence[str], behind: Sequence[str], slot: str = "") -> str:
    """Writes a list of titles out in full.

    Args:
        template: How titles are marked and joined.
        titles: The titles, cleaned.
        behind: What follows each, of the same length.
        slot: Name of the slot behind each; empty = none.
    """
    mark = f" <{slot}>" if slot else ""
    opening, closing = template.title_open, template.title_close
    return template.title_join.join(
        f"{opening}{title}{closing}{words}{mark}" for title, words in zip(titles, behind, strict=True)
    )
