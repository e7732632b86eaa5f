"""Leak checks: which evaluation rows show what they should not, under the protocol they were prepared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np

from collm.contracts.data import SPLITS, SplitName
from collm.data.columns import as_series, pieces
from collm.data.earlier import EarlierLabels
from collm.data.history import HistoryIndex
from collm.data.prepared import PreparedData, Rows
from collm.inspect.history_leaks import HISTORY_CHECKS, TRAIN, HistoryLeaks, history_leaks, positives_of
from collm.inspect.similar_titles import example_groups, n_identical, similar_items

Array = np.ndarray[Any, Any]

EVALUATED: tuple[SplitName, ...] = ("valid", "test")
_EXAMPLES = 3
Kind = Literal["leak", "caution"]

_NEWER_ONLY = "`history.visibility: strictly-earlier`, or `as-of-split`"


@dataclass(frozen=True)
class Check:
    """One thing that is looked for in evaluation rows.

    Attributes:
        name: Name on the command line and in JSON.
        kind: `leak`: the row shows information from after the question, or its answer was trained on; `caution`: the
            information is from before the question, but models see it unequally, or the number means something else.
        meaning: Which rows are affected, as the end of "rows whose ...".
        fix: What removes it, as the end of "fix: ...".
    """

    name: str
    kind: Kind
    meaning: str
    fix: str


CHECKS = (
    Check(
        "target-in-history",
        "leak",
        "own history shows the item that is asked about",
        f"{_NEWER_ONLY}, which leave earlier ratings of the target out",
    ),
    Check("later-history", "leak", "history shows an item of a later second than the row's", _NEWER_ONLY),
    Check("same-second", "leak", "history shows an item of the row's own second", _NEWER_ONLY),
    Check(
        "repeated-pair",
        "leak",
        "user and item are in an earlier split too (training, for test rows also validation)",
        "one row per user and item in the dataset, e.g. `dataset.duplicates: keep-last` of `files`",
    ),
    Check(
        "time-overlap",
        "leak",
        "time lies before the last training row's: training knows their future",
        "a split at one moment for all users, e.g. `dataset.split: {by: quantiles}` or `{by: dates}` of `files`",
    ),
    Check(
        "evaluation-history",
        "caution",
        "history shows an item from the evaluation period: models that read titles see it, fitted tables do not",
        "`history.visibility: as-of-split`",
    ),
    Check(
        "evaluation-labels",
        "caution",
        "user or item has labels before the row that training does not hold: what reads earlier labels (encoder "
        "online, the floors online-user-item and recent-logistic) knows them, fitted tables do not",
        "`history.visibility: as-of-split`",
    ),
    Check(
        "unseen-user",
        "caution",
        "user has no training row",
        "`slices.cold: unseen`, which measures rows of unseen users and items apart",
    ),
    Check(
        "unseen-item",
        "caution",
        "item has no training row",
        "`slices.cold: unseen`, which measures rows of unseen users and items apart",
    ),
    Check(
        "similar-title",
        "caution",
        "item has the title of another item, but for case, accents, punctuation, year and articles",
        "one id in the dataset's files for items that are one thing",
    ),
    Check(
        "similar-title-in-history",
        "caution",
        "history shows another item with the title of the one that is asked about",
        "one id in the dataset's files for items that are one thing; `history.visibility: as-of-split` shows fewer",
    ),
)


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        check: What was looked for.
        affected: Split -> bool [n_rows], in the order of `PreparedData.rows`.
        details: Further facts, plain data.
    """

    check: Check
    affected: Mapping[str, Array]
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def found(self) -> bool:
        """Whether any row is affected."""
        return any(bool(rows.any()) for rows in self.affected.values())

    def share(self) -> float:
        """Returns the largest share of affected rows of any split, 0 to 1."""
        return max((float(rows.mean()) for rows in self.affected.values() if len(rows)), default=0.0)

    def plain(self) -> dict[str, Any]:
        """Returns everything but the rows themselves, for JSON."""
        return {
            "name": self.check.name,
            "kind": self.check.kind,
            "meaning": f"rows whose {self.check.meaning}",
            "fix": self.check.fix,
            "found": self.found,
            "splits": {
                split: {"rows": int(rows.sum()), "share": float(rows.mean()) if len(rows) else 0.0}
                for split, rows in self.affected.items()
            },
            "details": dict(self.details),
        }


def find_leaks(
    data: PreparedData, *, max_items: int, max_disliked: int = 0, splits: Sequence[str] = EVALUATED
) -> list[Finding]:
    """Looks for every leak in the evaluation rows, with histories as the data was prepared with.

    Work is linear in the rows of the table but for sorting the evaluation rows; training rows are those of the whole
    training split, before `dataset.limit`.

    Args:
        data: Prepared data.
        max_items: Liked items per history at most.
        max_disliked: Disliked items per prompt at most; where there are any, they are looked at as histories are.
        splits: Splits whose rows are looked at.

    Returns:
        One finding per check of `CHECKS`, in that order, found or not.

    Raises:
        DataError: If the prepared files contradict each other.
    """
    rows = {split: data.rows(split) for split in splits}
    titles = as_series(data.titles, "title")
    groups = similar_items(titles)
    histories = _shown(data, data.history_index(), rows, groups, max_items, label=1)
    if max_disliked:
        others = _shown(data, data.past_index().disliked.index, rows, groups, max_disliked, label=0)
        histories = {split: found.beside(others[split]) for split, found in histories.items()}
    affected: dict[str, dict[str, Array]] = {
        name: {split: found.affected[name] for split, found in histories.items()} for name in HISTORY_CHECKS
    }
    details: dict[str, dict[str, Any]] = {
        name: {
            "shown_items": {
                split: {"flagged": found.n_flagged[name], "of": found.n_shown} for split, found in histories.items()
            }
        }
        for name in HISTORY_CHECKS
    }
    affected["repeated-pair"] = _repeated_pairs(data, rows)
    last = _last_training_second(data) if data.has_times else None
    affected["time-overlap"] = {
        split: np.zeros(len(each), dtype=bool) if last is None else each.timestamp < last
        for split, each in rows.items()
    }
    details["time-overlap"] = {"last_training_row": None if last is None else utc(last)}
    if not data.has_times:
        details["time-overlap"]["unknown"] = "the data has no times"
    affected["evaluation-labels"] = _evaluation_labels(data, rows)
    for name, counts, side in (
        ("unseen-user", data.user_train_rows, "user"),
        ("unseen-item", data.item_train_rows, "item"),
    ):
        affected[name] = {split: counts[getattr(each, side)] == 0 for split, each in rows.items()}
    affected["similar-title"] = {split: groups[each.item] > 0 for split, each in rows.items()}
    details["similar-title"] = {
        "items": int((groups > 0).sum()),
        "share_of_items": float((groups > 0).sum() / max(data.n_items, 1)),
        "groups": int(groups.max(initial=0)),
        "items_with_identical_title": n_identical(titles),
        "examples": example_groups(titles, groups, _EXAMPLES),
    }
    return [Finding(check, affected[check.name], details.get(check.name, {})) for check in CHECKS]


def _shown(
    data: PreparedData, index: HistoryIndex, rows: Mapping[str, Rows], groups: Array, max_items: int, *, label: int
) -> dict[str, HistoryLeaks]:
    """Returns split -> what its rows show of the items of a label."""
    positives = positives_of(data, index, label=label)
    return {
        split: history_leaks(index, each, positives=positives, groups=groups, max_items=max_items)
        for split, each in rows.items()
    }


def utc(second: int) -> str:
    """Returns a time as ISO text in UTC, e.g. `2000-12-01T00:00:00Z`; seconds since 1970 where no calendar has it."""
    try:
        return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, OSError, ValueError):
        return str(second)


def _last_training_second(data: PreparedData) -> int | None:
    times = data.column("timestamp")[data.split_places() == TRAIN]
    return int(times.max()) if len(times) else None


def _repeated_pairs(data: PreparedData, rows: Mapping[str, Rows]) -> dict[str, Array]:
    """Returns split -> bool [n_rows]: the row's user and item are in an earlier split of the whole table too."""
    width = data.n_items + 1
    pairs = {split: each.user * width + each.item for split, each in rows.items()}
    asked = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *pairs.values()]))
    first = np.full(len(asked), len(SPLITS), dtype=np.uint8)
    user, item, split_place = data.column("user"), data.column("item"), data.split_places()
    for part in pieces(len(user)) if len(asked) else ():
        key = user[part].astype(np.int64) * width + item[part]
        at = np.minimum(np.searchsorted(asked, key), len(asked) - 1)
        known = asked[at] == key
        for place in range(len(SPLITS)):
            mine = at[known & (split_place[part] == place)]
            first[mine] = np.minimum(first[mine], place)
    return {split: first[np.searchsorted(asked, pair)] < SPLITS.index(split) for split, pair in pairs.items()}


def _evaluation_labels(data: PreparedData, rows: Mapping[str, Rows]) -> dict[str, Array]:
    """Returns split -> bool [n_rows]: whether user or item has visible labels before the row that training lacks."""
    visible, trained = EarlierLabels(data), EarlierLabels(data, visibility="as-of-split")
    found: dict[str, Array] = {}
    for split, each in rows.items():
        asked = each.user, each.item, each.timestamp
        gap = visible.counts(*asked)[:, 1::2] - trained.counts(*asked)[:, 1::2]
        found[split] = np.asarray((gap > 0).any(axis=1))
    return found
