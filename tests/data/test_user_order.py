"""Rows by user and order, counted and sorted, in one block and in many."""

from __future__ import annotations

import numpy as np
import pytest

from collm.data import columns
from collm.data.columns import group_starts, rows_by_user, user_blocks


@pytest.mark.parametrize("piece", [4, 1 << 20])
@pytest.mark.parametrize("gaps", [False, True])
def test_equals_a_sort(piece: int, gaps: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "_PIECE_ROWS", piece)
    generator = np.random.default_rng(1)
    user = generator.integers(1, 30, 200).astype(np.int32)
    order = np.empty(200, dtype=np.int64)
    for each in np.unique(user):
        mine = np.flatnonzero(user == each)
        order[mine] = generator.permutation(len(mine))
    if gaps:
        order = order * 3 - 5
    counts = np.bincount(user)
    place = rows_by_user(user, order, counts)
    assert place.dtype == np.int32
    np.testing.assert_array_equal(place, np.lexsort((order, user)))


def test_equal_orders_are_sorted_beside_each_other() -> None:
    user, order = np.array([2, 1, 2, 2]), np.array([1, 0, 1, 0])
    assert rows_by_user(user, order, np.bincount(user)).tolist() == [1, 3, 0, 2]
    assert rows_by_user(user[:0], order[:0], np.zeros(0, dtype=np.int64)).tolist() == []


def test_blocks_hold_whole_users_and_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "_PIECE_ROWS", 10)
    counts = np.array([0, 4, 7, 0, 30, 1, 1, 0])
    blocks = list(user_blocks(counts))
    assert len(blocks) > 1
    users = [user for block in blocks for user in range(block.first, block.last + 1)]
    assert users == list(range(users[0], users[-1] + 1)) and counts[users].sum() == counts.sum()
    for block in blocks:
        assert block.rows.stop - block.rows.start == counts[block.first : block.last + 1].sum()
    assert blocks[-1].rows.stop == counts.sum()
    assert list(user_blocks(np.zeros(3, dtype=np.int64))) == []


def test_group_starts() -> None:
    assert group_starts(np.array([1, 1, 2, 2, 2]), np.array([0, 0, 0, 5, 5])).tolist() == [0, 0, 2, 3, 3]
