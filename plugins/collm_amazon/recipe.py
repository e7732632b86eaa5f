"""The steps between reviews and splits: duplicates, filter, halves. Each returns the rows left and what it did."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import polars as pl

from collm.data.table import keep_frequent
from collm.errors import DataError
from collm_amazon.config import FilterRule


def newest_of_each_pair(reviews: pl.DataFrame) -> pl.DataFrame:
    """Keeps of each user and item the newest review, of one moment the last in the file; in the order of the file.

    Args:
        reviews: Columns `user`, `item`, `moment`, `row`.
    """
    newest = reviews.sort("moment", "row").unique(["user", "item"], keep="last", maintain_order=True)
    return newest.sort("row")


def frequent(reviews: pl.DataFrame, *, rule: FilterRule, users: int, items: int) -> pl.DataFrame:
    """Applies a filter by numbers of reviews.

    Args:
        reviews: Columns `user`, `item`.
        rule: `k-core`: users and items with fewer reviews are removed until none is left; `more-than-once`: all that do
            not have more reviews are removed, counted once, so that some left may have fewer, even one (fact 25).
        users: Number for users.
        items: Number for items.

    Returns:
        The rows left, in their order.
    """
    if rule == "k-core":
        return keep_frequent(reviews, users=users, items=items, until_stable=True)
    return keep_frequent(reviews, users=users + 1, items=items + 1, until_stable=False)


def split_held_out(reviews: pl.DataFrame, *, held_out_from: date, divide_day: bool) -> tuple[pl.Series, str]:
    """Splits at a day, and halves what follows by time.

    The reviews from that day on are ordered by moment and then by the file. Divided, the first half (rounded down) is
    validation and the rest test; otherwise validation ends before the day in which the halves meet.

    Args:
        reviews: Columns `moment`, `timestamp`, `row`.
        held_out_from: First day after training, UTC.
        divide_day: Whether the day in which the halves meet is divided.

    Returns:
        Text column `train`, `valid`, `test`, and a sentence on the day in which the halves meet.

    Raises:
        DataError: If no review, or only one, is held out.
    """
    midnight = int(datetime(held_out_from.year, held_out_from.month, held_out_from.day, tzinfo=UTC).timestamp())
    time = reviews["timestamp"].to_numpy()
    order = np.lexsort((reviews["row"].to_numpy(), reviews["moment"].to_numpy()))
    held_out = order[time[order] >= midnight]
    n_held_out = len(held_out)
    if n_held_out < 2:
        raise DataError(
            f"dataset.held_out_from: {n_held_out} of {reviews.height} reviews are left from {held_out_from} on; "
            "choose an earlier day or smaller user_reviews and item_reviews"
        )
    middle = n_held_out // 2
    cut_day = datetime.fromtimestamp(int(time[held_out[middle]]), UTC).date()
    day_start = int(datetime(cut_day.year, cut_day.month, cut_day.day, tzinfo=UTC).timestamp())
    n_before = int((time[held_out[:middle]] < day_start).sum())
    names = np.full(reviews.height, "train", dtype=object)
    n_valid = middle if divide_day else n_before
    names[held_out[:n_valid]] = "valid"
    names[held_out[n_valid:]] = "test"
    n_of_day = int(((time[held_out] >= day_start) & (time[held_out] < day_start + 86_400)).sum())
    if not divide_day:
        sentence = f"the halves of the held-out reviews meet on {cut_day}; all its {n_of_day} reviews are test"
    elif n_before == middle:
        sentence = f"the halves of the held-out reviews meet at the beginning of {cut_day}"
    else:
        sentence = (
            f"the halves of the held-out reviews meet on {cut_day}: of its {n_of_day} reviews {middle - n_before} are "
            "validation, the others test, in the order of the file"
        )
    return pl.Series("split", names.tolist(), dtype=pl.String), sentence
