"""What the leak radar looks for: names, meanings, and the protocol field that mends each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["leak", "caution"]

_NEWER_ONLY = "`history.visibility: strictly-earlier`, or `as-of-split`"


@dataclass(frozen=True)
class Check:
    """One thing that the radar looks for in evaluation rows.

    Attributes:
        name: Name on the command line and in JSON.
        kind: `leak`: the row shows what nobody knew when the question was asked, or its answer was trained on;
            `caution`: it was known, but models see it unequally, or the number means something else there.
        meaning: Which rows are affected, as the end of "rows whose ...".
        fix: What mends it, as the end of "mended by ...".
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
        "user and item stand in an earlier split too (training, for test rows also validation)",
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
