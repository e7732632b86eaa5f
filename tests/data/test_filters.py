"""The frequency filter against counts by hand and a naive loop."""

from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl
import pytest

from collm.data.table import keep_frequent
from collm.errors import DataError

# Item y stands in two rows, one of them of user c, who has too few.
FRAME = pl.DataFrame({"user": list("aaabbbc"), "item": list("xzyxzzy"), "row": range(7)})


def core(rows: list[tuple[int, int]], users: int, items: int, *, until_stable: bool) -> list[int]:
    kept = list(range(len(rows)))
    while True:
        of_user, of_item = Counter(rows[k][0] for k in kept), Counter(rows[k][1] for k in kept)
        left = [k for k in kept if of_user[rows[k][0]] >= users and of_item[rows[k][1]] >= items]
        if left == kept or not until_stable:
            return left
        kept = left


def test_one_pass_counts_the_frame_as_it_is_given() -> None:
    once = keep_frequent(FRAME, users=2, items=2, until_stable=False)
    assert once["row"].to_list() == [0, 1, 2, 3, 4, 5]
    stable = keep_frequent(FRAME, users=2, items=2, until_stable=True)
    assert stable["row"].to_list() == [0, 1, 3, 4, 5]


@pytest.mark.parametrize("until_stable", [True, False])
@pytest.mark.parametrize(("users", "items"), [(1, 5), (4, 0), (3, 3), (5, 8), (50, 50)])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_a_naive_loop(seed: int, users: int, items: int, until_stable: bool) -> None:
    generator = np.random.default_rng(seed)
    user, item = generator.zipf(1.6, 300) % 60, generator.zipf(1.4, 300) % 40
    frame = pl.DataFrame({"user": user, "item": item}).with_row_index("row")
    found = keep_frequent(frame, users=users, items=items, until_stable=until_stable)
    expected = core(list(zip(user, item, strict=True)), users, items, until_stable=until_stable)
    assert found["row"].to_list() == expected


def test_nothing_to_remove_is_no_copy_and_no_rows_are_fine() -> None:
    assert keep_frequent(FRAME, users=1, items=0, until_stable=True) is FRAME
    assert keep_frequent(FRAME, users=1, items=2, until_stable=True) is FRAME
    assert keep_frequent(FRAME.clear(), users=3, items=3, until_stable=True).height == 0


def test_a_negative_minimum_is_refused() -> None:
    with pytest.raises(DataError, match="at least -1 rows per user and 2 per item; both must be 0 or more"):
        keep_frequent(FRAME, users=-1, items=2, until_stable=True)
