"""Split rules."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest

from collm.data.split import split_by_dates, split_by_global_time, split_by_user_time
from collm.errors import DataError

MONTHS = {"train": date(2001, 6, 1), "valid": date(2002, 4, 1), "test": date(2002, 9, 1), "end": date(2003, 2, 1)}


def seconds(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp())  # type: ignore[arg-type]


def test_dates_cut_at_utc_midnight() -> None:
    times = [
        seconds(2001, 5, 31, 23, 59, 59),
        seconds(2001, 6, 1),
        seconds(2002, 3, 31, 23, 59, 59),
        seconds(2002, 4, 1),
    ]
    times += [
        seconds(2002, 8, 31, 23, 59, 59),
        seconds(2002, 9, 1),
        seconds(2003, 1, 31, 23, 59, 59),
        seconds(2003, 2, 1),
    ]
    found = split_by_dates(pl.Series("timestamp", times), **MONTHS).to_list()
    assert found == [None, "train", "train", "valid", "valid", "test", "test", None]


def test_global_time_gives_shares_and_never_divides_a_second() -> None:
    found = split_by_global_time(pl.Series("timestamp", list(range(100))), valid=0.1, test=0.1)
    assert found.value_counts().sort("split")["count"].to_list() == [10, 80, 10]
    tied = split_by_global_time(pl.Series("timestamp", [1] * 5 + [2] * 5), valid=0.1, test=0.1).to_list()
    assert tied == ["train"] * 5 + ["test"] * 5


@pytest.mark.parametrize("seed", range(5))
def test_global_time_orders_the_splits(seed: int) -> None:
    times = np.random.default_rng(seed).integers(0, 50, 300)
    found = split_by_global_time(pl.Series("timestamp", times), valid=0.15, test=0.2).to_numpy()
    assert times[found == "train"].max() < times[found == "valid"].min()
    assert times[found == "valid"].max() < times[found == "test"].min()


@pytest.mark.parametrize(("n", "train", "valid", "test"), [(9, 9, 0, 0), (10, 8, 1, 1), (19, 17, 1, 1), (30, 24, 3, 3)])
def test_user_time_takes_the_last_rows_of_each_user(n: int, train: int, valid: int, test: int) -> None:
    order = np.random.default_rng(0).permutation(n)
    found = split_by_user_time(pl.Series([5] * n), pl.Series(order), valid=0.1, test=0.1).to_numpy()
    assert found[np.argsort(order)].tolist() == ["train"] * train + ["valid"] * valid + ["test"] * test


def test_user_time_treats_users_apart() -> None:
    user, order = pl.Series([1] * 10 + [2] * 20), pl.Series([*range(10), *range(20)])
    found = split_by_user_time(user, order, valid=0.1, test=0.1).to_list()
    assert found[9] == "test" and found[10:26] == ["train"] * 16 and found[28:] == ["test"] * 2


@pytest.mark.parametrize(("valid", "test"), [(0.5, 0.5), (-0.1, 0.1), (0.1, 1.0)])
def test_impossible_shares(valid: float, test: float) -> None:
    with pytest.raises(DataError, match="sum to less than 1"):
        split_by_global_time(pl.Series("timestamp", [1, 2]), valid=valid, test=test)
    with pytest.raises(DataError, match="sum to less than 1"):
        split_by_user_time(pl.Series([1]), pl.Series([0]), valid=valid, test=test)


def test_no_rows() -> None:
    assert len(split_by_global_time(pl.Series("timestamp", [], dtype=pl.Int64), valid=0.1, test=0.1)) == 0


@pytest.mark.parametrize(
    ("n", "train", "valid", "test"), [(10, 8, 1, 1), (19, 15, 2, 2), (11, 8, 1, 2), (15, 12, 1, 2)]
)
def test_global_cuts_are_the_floors_of_the_shares(n: int, train: int, valid: int, test: int) -> None:
    # floor(n 0.8) rows train and floor(n 0.9) are not test rows: 19 rows give 15 and 17, not 16 and 18.
    split = split_by_global_time(pl.Series(range(n)), valid=0.1, test=0.1)
    assert [(split == name).sum() for name in ("train", "valid", "test")] == [train, valid, test]
