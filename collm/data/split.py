"""Rules that put rows into train, valid and test. Each returns one text column; null = outside every split."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime

import numpy as np
import polars as pl

from collm.contracts.data import SPLITS, LastOut
from collm.errors import DataError

# Guards the floor against 0.1 * 30 = 3.0000000000000004 and 0.29 * 100 = 28.999999999999996.
_SHARE_DIGITS = 9

PER_USER_NOTE = (
    "split per-user-time: test is each user's last rows, so training rows of some users are later in time than test "
    "rows of others (leakage across users); split global-time has none"
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


def split_last_out(frame: pl.DataFrame, rule: LastOut) -> tuple[pl.Series, tuple[str, ...]]:
    """Puts each user's last n rows, or positives, into test and the n before them into validation.

    Where positives are counted, rows with label 0 lie in the split of their time: those behind the first positive of
    test are test rows, those between the first positive of validation and it are validation rows. A user with fewer
    than 2 n + 1 of what is counted is in training alone: nothing would be left to learn from.

    Args:
        frame: Columns `user`, `order` (place of the row in its user's history, unique per user) and `label` (0 or 1).
        rule: What is counted, and how many.

    Returns:
        Text column `train`, `valid` or `test`, and what every results table must state.

    Raises:
        DataError: If no user has enough rows.
    """
    is_counted = pl.lit(True) if rule.of == "rows" else pl.col("label") == 1
    counted = frame.select("user", "order", is_counted.alias("counted").cast(pl.Int64))
    later = pl.col("counted").cum_sum(reverse=True).over("user", order_by="order") - pl.col("counted")
    fewest = 2 * rule.n + 1
    name = (
        pl.when((pl.col("counted").sum().over("user") < fewest) | (later >= 2 * rule.n))
        .then(pl.lit("train"))
        .when(later >= rule.n)
        .then(pl.lit("valid"))
        .otherwise(pl.lit("test"))
    )
    split = counted.select(name.alias("split"))["split"]
    of_user = counted.group_by("user").agg(pl.col("counted").sum())["counted"]
    n_users, n_few = len(of_user), int((of_user < fewest).sum())
    if n_few == n_users:
        raise DataError(
            f"split leave-last-out: none of {n_users} users has {fewest} {rule.of}: {rule.n} for test, {rule.n} for "
            f"validation and one to learn from; the most are {of_user.max() or 0}: lower last_rows"
            f"{', count all rows (last_of: rows)' if rule.of == 'positives' else ''} or choose another split"
        )
    return split, (_last_out_note(rule), *([_few_rows_note(n_few, n_users, fewest, rule)] if n_few else []))


def _last_out_note(rule: LastOut) -> str:
    several, n = rule.n > 1, rule.n
    if rule.of == "rows":
        held = (
            f"each user's last {f'{n} rows' if several else 'row'} and validation the {n if several else 'one'} before"
        )
    else:
        last = f"last {n} positives" if several else "last positive"
        before = f"the {n} positives before" if several else "the positive before"
        held = (
            f"each user's {last} and the rows with label 0 behind {'the first of them' if several else 'it'}, "
            f"validation {before} and the rows with label 0 from there up to test"
        )
    return (
        f"split leave-last-out: test is {held}, so training rows of some users can be later in time than test rows of "
        "others (leakage across users); a split at one moment for all users has none"
    )


def _few_rows_note(n_few: int, n_users: int, fewest: int, rule: LastOut) -> str:
    return (
        f"split leave-last-out: {n_few:,} of {n_users:,} users have fewer than {fewest} {rule.of} and are in training "
        "alone"
    )


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
