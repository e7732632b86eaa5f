"""Warm and cold rules."""

from __future__ import annotations

import numpy as np
import pytest

from collm.data.slices import slice_masks
from collm.errors import DataError

# user u and item u have u - 1 training rows: 0, 1, 2, 3, 4 rows for ids 1..5
TRAIN_ROWS = np.array([0, 0, 1, 2, 3, 4])
COUNTS = TRAIN_ROWS[[1, 2, 3, 4, 5, 5]], TRAIN_ROWS[[5, 5, 5, 5, 5, 1]]


@pytest.mark.parametrize(
    ("warm", "cold", "expected_warm", "expected_cold"),
    [
        ("at-least-3", "rest", [0, 0, 0, 1, 1, 0], [1, 1, 1, 0, 0, 1]),
        ("more-than-3", "unseen", [0, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, 1]),
        ("seen", "unseen", [0, 1, 1, 1, 1, 0], [1, 0, 0, 0, 0, 1]),
    ],
)
def test_rules(warm: str, cold: str, expected_warm: list[int], expected_cold: list[int]) -> None:
    masks = slice_masks(*COUNTS, warm=warm, cold=cold)
    assert list(masks) == ["all", "warm", "cold"]
    assert masks["all"].all()
    assert masks["warm"].astype(int).tolist() == expected_warm
    assert masks["cold"].astype(int).tolist() == expected_cold


def test_unknown_rule() -> None:
    with pytest.raises(DataError, match=r"got 'hot', 'rest'; allowed are warm at-least-3"):
        slice_masks(*COUNTS, warm="hot", cold="rest")
