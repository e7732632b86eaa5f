"""Warm and cold rows by the rules that the paper and its code use (fact 28)."""

from __future__ import annotations

from typing import Any

import numpy as np

from collm.errors import DataError

Array = np.ndarray[Any, Any]

WARM_RULES = {"at-least-3": 3, "more-than-3": 4, "seen": 1}
COLD_RULES = ("rest", "unseen")


def slice_masks(user_train_rows: Array, item_train_rows: Array, *, warm: str, cold: str) -> dict[str, Array]:
    """Says which rows belong to which slice.

    Args:
        user_train_rows: int64 [n_rows] rows of each row's user in the full training split.
        item_train_rows: int64 [n_rows], the same of its item.
        warm: `at-least-3` (user and item have 3 or more training rows), `more-than-3`, `seen` (1 or more).
        cold: `rest` (every row that is not warm) or `unseen` (user or item has no training row).

    Returns:
        `all`, `warm`, `cold` -> bool [n_rows]. Rows may be in neither of the last two (`more-than-3` with `unseen`).

    Raises:
        DataError: If a rule is unknown.
    """
    if warm not in WARM_RULES or cold not in COLD_RULES:
        raise DataError(
            f"slices: got '{warm}', '{cold}'; allowed are warm {', '.join(WARM_RULES)}; cold {', '.join(COLD_RULES)}"
        )
    fewer = np.minimum(user_train_rows, item_train_rows)
    is_warm = fewer >= WARM_RULES[warm]
    is_cold = ~is_warm if cold == "rest" else fewer == 0
    return {"all": np.ones(len(is_warm), dtype=bool), "warm": is_warm, "cold": is_cold}


def part_in_time(time: Array, part: tuple[float, float]) -> Array:
    """Says which rows lie in a share of all rows in order of time; rows of one second are never divided.

    Args:
        time: int64 [n_rows] seconds.
        part: Where the share begins and ends, rising numbers of 0 to 1; the row at an end belongs to the later part.

    Returns:
        bool [n_rows]. Neighbouring parts have no row in common and miss none.
    """
    if not len(time):
        return np.zeros(0, dtype=bool)
    ordered = np.sort(time)
    bounds = np.append(ordered, ordered[-1] + 1)
    low, high = (bounds[round(share * len(time))] for share in part)
    inside: Array = (time >= low) & (time < high)
    return inside
