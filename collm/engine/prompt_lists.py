"""What prompts list of each row's past, as a spec's `history` says: liked items, disliked ones, and how long ago."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from collm.contracts.data import SAMPLED
from collm.data.pairs import LATEST, has_dates
from collm.data.past import Past
from collm.data.prepared import PreparedData, Rows
from collm.errors import DataError
from collm.prompt.lists import TitleLists, age_buckets
from collm.spec.sections import HistoryConfig


@dataclass(frozen=True)
class PromptLists:
    """Reads the lists of rows.

    Attributes:
        history: What is listed, and how many items at most.
        last_time: Seconds of the dataset's last row; ages of rows that are asked after everything known count from it.
    """

    history: HistoryConfig
    last_time: int = 0

    @classmethod
    def of(cls, history: HistoryConfig, data: PreparedData) -> PromptLists:
        """Returns what reads the lists of a dataset's rows.

        Raises:
            DataError: If the dataset has no dislikes to list, or no times that tell ages.
        """
        check_lists(history, data)
        return cls(history, int(data.column("timestamp").max(initial=0)) if history.ages else 0)

    def read(self, data: PreparedData, rows: Rows) -> TitleLists:
        """Returns what the prompts of rows of `data` list."""
        history = self.history
        if history.include == "liked" and not history.ages:
            return TitleLists(data.history(rows, history.max_items))
        past, age = self.past(data, rows), None
        if history.ages:
            asked = np.where(rows.timestamp == LATEST, self.last_time, rows.timestamp)
            age = np.where(past.items != 0, age_buckets(asked[:, None] - past.time), 0)
        return TitleLists(past.items, past.liked if history.include == "both" else None, age)

    def past(self, data: PreparedData, rows: Rows) -> Past:
        """Returns the items that the prompts of rows of `data` list, with times."""
        past = data.past(rows, max_liked=self.history.n_liked, max_disliked=self.history.n_disliked)
        return past if self.history.max_rated is None else past.latest(self.history.max_rated)


def check_lists(history: HistoryConfig, data: PreparedData) -> None:
    """Accepts data that has what prompts shall list.

    Raises:
        DataError: If it has not.
    """
    if history.ages and not (data.has_times and has_dates(data)):
        what = "times are numbers of no known unit, not dates" if data.has_times else "rows have an order, but no times"
        raise DataError(f"history.ages: the dataset's {what}, so the age of an item is unknown; set it to false")
    if history.include == "both" and not len(data.past_index().disliked.index.positives):
        where = "training split has" if data.visibility == "as-of-split" else "dataset has"
        n_drawn = n_drawn_rows(data)
        drawn = f"; its {n_drawn:,} rows drawn as negatives are not dislikes" if n_drawn else ""
        raise DataError(
            f"history.include: both: the {where} no row with label 0 that prompts could list{drawn}; set "
            "history.include: liked"
        )


def n_drawn_rows(data: PreparedData) -> int:
    """Returns how many rows of a dataset were drawn as negatives."""
    drawn = data.optional_column(SAMPLED)
    return 0 if drawn is None else int(drawn.sum())
