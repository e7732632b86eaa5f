"""Rules that put rows into train, valid and test. Each returns one text column; null = outside every split."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime

import numpy as np
import polars as pl

from collm.contracts.data import SPLITS
from collm.errors import DataError

# Guards the floor against 0.1 * 30 = 3.0000000000000004 and 0.29 * 100 = 28.999999999999996.
_SHARE_DIGITS = 9
# Of leave-last-out: one row for test, one for validation, one to learn from.
_FEWEST_ROWS = 3

PER_USER_NOTE = (
    "split per-user-time: test is each user's last rows, so training rows of some users are later in time than test "
    "rows of others (leakage across users); split global-time has none"
)

LAST_OUT_NOTE = (
    "split leave-last-out: test is each user's last row and validation the one before, so training rows of some users "
    "are later in time than test rows of others (leakage across users); split by quantiles or dates has none"
)
RANDOM_NOTE = (
    "split random: rows are drawn without regard to time, so training holds rows later than those of validation and "
    "test (leakage from the future)"
)


def _check_shares(valid: float, test: float) -> None:
    if not (0 <= valid < 1 and 0 <= test < 1 and valid + test < 1):
        raise DataError(
            f"dataset: valid_share {valid} and test_share {test} must each lie in [0, 1) and sum to less than 1"
        )


def split_by_dates(timestamp: pl.Series, *, train: date, valid: date, test: date, end: date) -> pl.Series:
    """Splits at UTC midnights.

    Args:
        timestamp: int64 seconds since 1970 UTC, one per row.
        train: First day of training; earlier rows belong to no split.
        valid: First day of validation.
        test: First day of test.
        end: First day after test; rows from it on belong to no split.

    Returns:
        Text column: `train`, `valid`, `test` or null.
    """
    cuts = [int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) for day in (train, valid, test, end)]
    return _by_cuts(timestamp, cuts)


def split_by_global_time(timestamp: pl.Series, *, valid: float, test: float) -> pl.Series:
    """Splits all rows at two moments, so that every training row is earlier than every validation and test row.

    The cuts are the times of the rows at places floor(n (1 - valid - test)) and floor(n (1 - test)) in time order. A
    second is never divided: rows of the cut's own second belong to the later split.

    Args:
        timestamp: int64 seconds, one per row.
        valid: Share of rows in validation, in [0, 1).
        test: Share of rows in test, in [0, 1).

    Returns:
        Text column: `train`, `valid` or `test`.

    Raises:
        DataError: If the shares leave no training rows.
    """
    _check_shares(valid, test)
    n = len(timestamp)
    if n == 0:
        return pl.Series("split", [], dtype=pl.String)
    ordered = np.sort(timestamp.to_numpy())
    places = (
        math.floor(round(n * (1 - valid - test), _SHARE_DIGITS)),
        math.floor(round(n * (1 - test), _SHARE_DIGITS)),
    )
    after = int(ordered[-1]) + 1
    cuts = [int(ordered[place]) if place < n else after for place in places]
    return _by_cuts(timestamp, [int(ordered[0]), *cuts, after])


def split_by_user_time(user: pl.Series, order: pl.Series, *, valid: float, test: float) -> pl.Series:
    """Puts each user's last rows into test and those before them into validation.

    A user with n rows gives floor(n test) rows to test and floor(n valid) to validation; with the usual 10% a user with
    fewer than 10 rows is therefore in training alone.

    Args:
        user: User of each row.
        order: int64 position of the row in its user's history; unique per user.
        valid: Share of each user's rows in validation, in [0, 1).
        test: Share of each user's rows in test, in [0, 1).

    Returns:
        Text column: `train`, `valid` or `test`.

    Raises:
        DataError: If the shares leave no training rows.
    """
    _check_shares(valid, test)
    frame = pl.DataFrame({"user": user, "order": order})
    n_rows = pl.len().over("user")
    from_end = n_rows - pl.col("order").rank("ordinal").over("user")
    n_test = (n_rows * test).round(_SHARE_DIGITS).floor()
    n_held = n_test + (n_rows * valid).round(_SHARE_DIGITS).floor()
    name = (
        pl.when(from_end < n_test)
        .then(pl.lit("test"))
        .when(from_end < n_held)
        .then(pl.lit("valid"))
        .otherwise(pl.lit("train"))
    )
    return frame.select(name.alias("split"))["split"]


def split_last_out(user: pl.Series, order: pl.Series) -> pl.Series:
    """Puts each user's last row into test and the one before it into validation.

    A user with fewer than 3 rows is in training alone: nothing would be left to learn from.

    Args:
        user: User of each row.
        order: int64 position of the row in its user's history; unique per user.

    Returns:
        Text column: `train`, `valid` or `test`.
    """
    n_rows = pl.len().over("user")
    from_end = n_rows - pl.col("order").rank("ordinal").over("user")
    name = (
        pl.when((n_rows < _FEWEST_ROWS) | (from_end > 1))
        .then(pl.lit("train"))
        .when(from_end == 0)
        .then(pl.lit("test"))
        .otherwise(pl.lit("valid"))
    )
    return pl.DataFrame({"user": user, "order": order}).select(name.alias("split"))["split"]


def split_at_random(n_rows: int, *, valid: float, test: float, seed: int) -> pl.Series:
    """Draws floor(n test) rows for test and floor(n valid) for validation.

    Args:
        n_rows: Rows to split.
        valid: Share of rows in validation, in [0, 1).
        test: Share of rows in test, in [0, 1).
        seed: Decides the draw.

    Returns:
        Text column: `train`, `valid` or `test`.

    Raises:
        DataError: If the shares leave no training rows.
    """
    _check_shares(valid, test)
    n_test = math.floor(round(n_rows * test, _SHARE_DIGITS))
    n_valid = math.floor(round(n_rows * valid, _SHARE_DIGITS))
    names = np.full(n_rows, "train", dtype=object)
    drawn = np.random.default_rng(seed).permutation(n_rows)
    names[drawn[:n_test]] = "test"
    names[drawn[n_test : n_test + n_valid]] = "valid"
    return pl.Series("split", names.tolist(), dtype=pl.String)


def _by_cuts(timestamp: pl.Series, cuts: list[int]) -> pl.Series:
    """Returns the split of each time, given the starts of train, valid, test and what follows."""
    time = timestamp.to_numpy()
    place = np.zeros(len(time), dtype=np.uint8)
    for cut in cuts:
        place += time >= cut
    # Numbers first and names once: chained conditions over text would hold several text columns at a time.
    names = pl.Series("split", [None, *SPLITS, None], dtype=pl.String)
    return names.gather(pl.Series(place).cast(pl.UInt32))
