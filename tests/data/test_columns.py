"""Dense numbers and counts, also where the rows are worked on in several pieces."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from collm.data import columns
from collm.data.columns import count_ids, numbered, piece_rows, pieces


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
