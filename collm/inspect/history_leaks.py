"""What rows' histories show, one place back at a time: second, split and title of every item that a prompt would hold.

Written apart from the code that builds histories, so that a mistake there shows here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from collm.contracts.data import SAMPLED, SPLITS
from collm.data.columns import count_ids, rows_by_user
from collm.data.history import HistoryIndex
from collm.data.prepared import PreparedData, Rows
from collm.errors import DataError

Array = np.ndarray[Any, Any]

TRAIN, OUTSIDE = SPLITS.index("train"), len(SPLITS)
HISTORY_CHECKS = ("target-in-history", "later-history", "same-second", "evaluation-history", "similar-title-in-history")


@dataclass(frozen=True)
class Positives:
    """The flat array of positives that histories point into, with what histories must not show.

    Attributes:
        item: int32 [n_positives] dense ids.
        timestamp: int64 [n_positives] seconds since 1970 UTC.
        is_evaluation: bool [n_positives]: of a row in validation or test, or of one outside every split that is not
            earlier than the first of those.
    """

    item: Array
    timestamp: Array
    is_evaluation: Array


@dataclass(frozen=True)
class HistoryLeaks:
    """What the histories of some rows show.

    Attributes:
        affected: Check -> bool [n_rows].
        n_shown: Items that all histories show together.
        n_flagged: Check -> how many of them the check is about.
    """

    affected: dict[str, Array]
    n_shown: int
    n_flagged: dict[str, int]

    def beside(self, other: HistoryLeaks) -> HistoryLeaks:
        """Returns what two lists of the same rows show together."""
        return HistoryLeaks(
            {name: rows | other.affected[name] for name, rows in self.affected.items()},
            self.n_shown + other.n_shown,
            {name: n + other.n_flagged[name] for name, n in self.n_flagged.items()},
        )


def positives_of(data: PreparedData, index: HistoryIndex, *, label: int = 1) -> Positives:
    """Finds the row behind every entry of the flat array.

    Args:
        data: Prepared data.
        index: Where the rows of a label lie.
        label: Which label; rows that were drawn as negatives have none.

    Raises:
        DataError: If the array is not the rows of that label in their users' order.
    """
    user, split = data.column("user"), data.split_places()
    place = rows_by_user(user, data.column("order"), count_ids(user, data.n_users + 1))
    visible = data.column("label") == label
    if (drawn := data.optional_column(SAMPLED)) is not None and label == 0:
        visible = visible & ~drawn.astype(bool)
    if data.visibility == "as-of-split":
        visible = visible & (split == TRAIN)
    row = place[visible[place]]
    item = index.positives
    if len(item) != len(row) or not np.array_equal(item, data.column("item")[row]):
        raise DataError(
            f"positives.parquet: its {len(item)} entries are not the {len(row)} positives of the table by user and "
            f"order that visibility '{data.visibility}' means; prepare the dataset again"
        )
    time = data.column("timestamp")
    evaluated = (split != TRAIN) & (split != OUTSIDE)
    if evaluated.any():
        evaluated |= (split == OUTSIDE) & (time >= time[evaluated].min())
    return Positives(item, time[row], evaluated[row])


def history_leaks(
    index: HistoryIndex, rows: Rows, *, positives: Positives, groups: Array, max_items: int
) -> HistoryLeaks:
    """Walks back through the histories of rows.

    Args:
        index: Where the histories of the table's rows lie.
        rows: Rows of the table.
        positives: What `positives_of` gives.
        groups: int64 [n_items + 1] groups of items with one title, 0 = no group.
        max_items: Items per history at most.

    Returns:
        Which rows show what, in the order of `rows`; memory is O(rows), work O(items shown).
    """
    affected = {name: np.zeros(len(rows), dtype=bool) for name in HISTORY_CHECKS}
    n_flagged = dict.fromkeys(HISTORY_CHECKS, 0)
    n_shown = np.zeros(len(rows), dtype=np.int64)
    start, cursor = index.start[rows.index], index.end[rows.index]
    active = np.arange(len(rows) if max_items else 0)
    while len(active):
        cursor[active] -= 1
        active = active[cursor[active] >= start[active]]
        # Where targets are left out, reading goes on behind them.
        left_out = (positives.item[cursor[active]] == rows.item[active]) & bool(index.repeats)
        shown = active[~left_out]
        n_shown[shown] += 1
        for name, flags in _flags(rows, shown, positives, cursor[shown], groups).items():
            affected[name][shown] |= flags
            n_flagged[name] += int(flags.sum())
        active = active[n_shown[active] < max_items]
    return HistoryLeaks(affected, int(n_shown.sum()), n_flagged)


def _flags(rows: Rows, shown: Array, positives: Positives, at: Array, groups: Array) -> dict[str, Array]:
    """Returns check -> bool [n]: what one item of each history in `shown` is, given its place in the flat array."""
    item, target = positives.item[at], rows.item[shown]
    time, asked = positives.timestamp[at], rows.timestamp[shown]
    return {
        "target-in-history": item == target,
        "later-history": time > asked,
        "same-second": time == asked,
        "evaluation-history": positives.is_evaluation[at],
        "similar-title-in-history": (groups[item] == groups[target]) & (groups[target] > 0) & (item != target),
    }
