"""Dense numbers and counts, also where the rows are worked on in several pieces."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from collm.data import columns
from collm.data.columns import (
    Texts,
    as_series,
    count_ids,
    group_starts,
    numbered,
    piece_rows,
    pieces,
    rows_by_user,
    user_blocks,
)


@pytest.fixture(params=[3, 1 << 20], ids=["several pieces", "one piece"])
def _size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "_PIECE_ROWS", request.param)


@pytest.mark.usefixtures("_size")
@pytest.mark.parametrize("values", [["b", "a", "c", "a", "a", "b", "z"], [9, 2, 9, 9, -4, 2, 7], []])
def test_numbers_follow_the_order_of_values(values: list[str] | list[int]) -> None:
    series = pl.Series("user", values, dtype=None if values else pl.Int64)
    numbers, distinct = numbered(series)
    assert distinct.to_list() == sorted(set(values))
    assert (numbers.name, numbers.dtype) == ("user", pl.Int32)
    assert [sorted(set(values))[number - 1] for number in numbers] == values


@pytest.mark.usefixtures("_size")
def test_counts_equal_bincount() -> None:
    ids = np.random.default_rng(0).integers(0, 9, 100).astype(np.int32)
    where = ids % 2 == 0
    np.testing.assert_array_equal(count_ids(ids, 12), np.bincount(ids, minlength=12))
    np.testing.assert_array_equal(count_ids(ids, 12, where=where), np.bincount(ids[where], minlength=12))
    assert count_ids(ids[:0], 3).tolist() == [0, 0, 0]


def test_pieces_cover_all_rows_and_their_number_is_bounded() -> None:
    for n_rows in (0, 1, 1 << 20, (1 << 20) + 1, 10**8):
        found = list(pieces(n_rows))
        assert sum(part.stop - part.start for part in found) == n_rows
        assert [part.start for part in found[1:]] == [part.stop for part in found[:-1]]
        assert len(found) <= 32
    assert piece_rows(10**9) == 31_250_000


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


PLAIN = ["", "a", "bcd", "ä"]
texts = Texts.padded(pl.Series(PLAIN[1:]))


def test_reads_like_a_list() -> None:
    assert list(texts) == PLAIN and len(texts) == 4 and [*texts, "x"] == [*PLAIN, "x"]
    assert (texts[1], texts[-1], texts.index("bcd"), "a" in texts) == ("a", "ä", 2, True)
    assert list(texts[1:3]) == PLAIN[1:3]


def test_equality_is_that_of_the_content() -> None:
    assert texts == PLAIN and texts == PLAIN and texts == Texts(pl.Series("other name", PLAIN))
    assert texts != PLAIN[:3] and texts != [*PLAIN[:3], "o"] and texts != 4


def test_numbers_become_text_and_any_sequence_a_column() -> None:
    assert Texts.padded(pl.Series([7, 12])) == ["", "7", "12"]
    assert as_series(texts, "id").equals(pl.Series("id", PLAIN), check_names=True)
    assert as_series(PLAIN, "id").equals(pl.Series("id", PLAIN), check_names=True)
    assert as_series([]).dtype == pl.String
    assert "4: '', 'a'" in repr(texts)
