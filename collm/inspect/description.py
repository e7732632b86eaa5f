"""What a prepared dataset holds: rows, people, items, labels, times and histories of each split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from collm.contracts.data import SPLITS, Visibility
from collm.data.columns import pieces
from collm.data.prepared import PreparedData, Rows
from collm.data.slices import slice_masks
from collm.ingest.times import FIRST
from collm.inspect.leak_checks import utc

Array = np.ndarray[Any, Any]

QUANTILES = (0, 25, 50, 75, 90, 100)
TIME_BINS = 60


@dataclass(frozen=True)
class SplitFacts:
    """One split, after `dataset.limit`.

    Attributes:
        rows: Its rows.
        users: Distinct users.
        items: Distinct items.
        positives: Rows with label 1.
        first: Earliest second since 1970 UTC; None without rows.
        last: Latest one.
        history_rows: int64 [max_items + 1] rows whose history shows 0, 1, 2 ... items.
        warm: Share of warm rows, 0 to 1; None for training rows, which the rule is about.
        cold: Share of cold rows, the same way.
    """

    rows: int
    users: int
    items: int
    positives: int
    first: int | None
    last: int | None
    history_rows: Array
    warm: float | None
    cold: float | None

    def plain(self, *, dated: bool) -> dict[str, Any]:
        """Returns the facts as plain data, with times as text and quantiles of the history length."""
        in_words = utc if dated else str
        return {
            "rows": self.rows,
            "users": self.users,
            "items": self.items,
            "positive_share": self.positives / self.rows if self.rows else None,
            "first": None if self.first is None else in_words(self.first),
            "last": None if self.last is None else in_words(self.last),
            "history_length": {f"p{part}": quantile(self.history_rows, part / 100) for part in QUANTILES},
            "empty_history_share": float(self.history_rows[0]) / self.rows if self.rows else None,
            "warm_share": self.warm,
            "cold_share": self.cold,
        }


@dataclass(frozen=True)
class Description:
    """A prepared dataset in numbers.

    Attributes:
        visibility: Which earlier positives a row sees.
        max_items: Items per history at most.
        splits: Split -> facts.
        counts: Rows per split after `dataset.limit`, users and items of the whole table.
        full_counts: The same before.
        shared_second: Share of all rows whose user has another row in the same second.
        time_edges: float64 [TIME_BINS + 1] seconds; empty without rows.
        time_rows: Split -> int64 [TIME_BINS] rows between the edges.
        item_rows: int64 [n_items] training rows of each item, most first.
        notes: Sentences that every results table states.
        tie_rule: How rows of one second are ordered.
    """

    visibility: Visibility
    max_items: int
    splits: Mapping[str, SplitFacts]
    counts: Mapping[str, int]
    full_counts: Mapping[str, int]
    shared_second: float
    time_edges: Array
    time_rows: Mapping[str, Array]
    item_rows: Array
    notes: tuple[str, ...]
    tie_rule: str

    @property
    def dated(self) -> bool:
        """Whether times are times: line numbers, where a dataset has none, end before the first possible year."""
        return bool(len(self.time_edges)) and bool(self.time_edges[-1] >= FIRST)

    def plain(self) -> dict[str, Any]:
        """Returns what JSON shows: everything but the curves of the picture."""
        return {
            "visibility": self.visibility,
            "max_items": self.max_items,
            "dated": self.dated,
            "counts": dict(self.counts),
            "full_counts": dict(self.full_counts),
            "splits": {name: facts.plain(dated=self.dated) for name, facts in self.splits.items()},
            "rows_sharing_a_second": self.shared_second,
            "item_train_rows": {f"p{part}": _percentile(self.item_rows, part) for part in QUANTILES},
            "tie_rule": self.tie_rule,
            "notes": list(self.notes),
        }


def describe(data: PreparedData, *, max_items: int, warm: str, cold: str) -> Description:
    """Counts everything, in memory of a few bytes a row.

    Raises:
        DataError: If a slice rule is unknown or the files cannot be read.
    """
    rows = {split: data.rows(split) for split in SPLITS}
    times = [each.timestamp for each in rows.values() if len(each)]
    edges = np.linspace(min(map(np.min, times)), max(map(np.max, times)) + 1, TIME_BINS + 1) if times else np.zeros(0)
    return Description(
        visibility=data.visibility,
        max_items=max_items,
        splits={
            split: _split_facts(data, each, max_items, None if split == "train" else (warm, cold))
            for split, each in rows.items()
        },
        counts=data.counts(),
        full_counts=data.full_counts(),
        shared_second=_shared_second(data),
        time_edges=edges,
        time_rows={split: np.histogram(each.timestamp, edges)[0] for split, each in rows.items()} if times else {},
        item_rows=np.sort(data.item_train_rows[1:])[::-1],
        notes=data.notes,
        tie_rule=data.tie_rule,
    )


def quantile(counts: Array, part: float) -> int | None:
    """Returns the smallest value that at least this part of the rows does not exceed.

    Args:
        counts: int64 [n] rows with value 0, 1, 2 ...
        part: 0 to 1; 0 gives the smallest value.

    Returns:
        The value; None without rows.
    """
    total = int(counts.sum())
    if not total:
        return None
    return int(np.searchsorted(np.cumsum(counts), max(1, int(np.ceil(part * total)))))


def _percentile(values: Array, part: int) -> float | None:
    return float(np.percentile(values, part)) if len(values) else None


def _split_facts(data: PreparedData, rows: Rows, max_items: int, rules: tuple[str, str] | None) -> SplitFacts:
    shown = np.zeros(max_items + 1, dtype=np.int64)
    for part in pieces(len(rows)):
        lengths = (data.history(rows.take(np.arange(part.start, part.stop)), max_items) != 0).sum(axis=1)
        shown += np.bincount(lengths, minlength=max_items + 1)
    shares: dict[str, float | None] = {"warm": None, "cold": None}
    if rules is not None and len(rows):
        counts = data.user_train_rows[rows.user], data.item_train_rows[rows.item]
        masks = slice_masks(*counts, warm=rules[0], cold=rules[1])
        shares = {name: float(masks[name].mean()) for name in shares}
    return SplitFacts(
        rows=len(rows),
        users=_n_distinct(rows.user, data.n_users),
        items=_n_distinct(rows.item, data.n_items),
        positives=int(np.count_nonzero(rows.label)),
        first=int(rows.timestamp.min()) if len(rows) else None,
        last=int(rows.timestamp.max()) if len(rows) else None,
        history_rows=shown,
        warm=shares["warm"],
        cold=shares["cold"],
    )


def _n_distinct(ids: Array, highest: int) -> int:
    seen = np.zeros(highest + 1, dtype=bool)
    seen[ids] = True
    return int(seen.sum())


def _shared_second(data: PreparedData) -> float:
    """Returns the share of rows whose (user, second) another row of the table has too."""
    user, time = data.column("user"), data.column("timestamp")
    if not len(user):
        return 0.0
    order = np.lexsort((time, user))
    same = (np.diff(user[order]) == 0) & (np.diff(time[order]) == 0)
    shares = np.zeros(len(user), dtype=bool)
    shares[1:] |= same
    shares[:-1] |= same
    return float(shares.mean())
