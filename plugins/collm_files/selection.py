"""The steps from rows as read to labelled rows of splits: duplicates, filter, split, drawn negatives; with notes."""

from __future__ import annotations

from datetime import UTC, date, datetime

import polars as pl

from collm.contracts.data import LAST_OUT, SPLITS
from collm.data.negatives import draw_negatives, notes_of
from collm.data.split import (
    RANDOM_NOTE,
    split_at_random,
    split_by_dates,
    split_by_global_time,
    split_last_out,
)
from collm.data.table import keep_frequent, with_order
from collm.errors import DataError
from collm.ingest.times import FIRST_YEAR, LAST_YEAR
from collm_files.config import FilesConfig
from collm_files.rules import FilterRule

# Outside every time that is accepted: all rows are before, between or after the two dates of the spec.
_START, _END = date(FIRST_YEAR, 1, 1), date(LAST_YEAR, 1, 2)
Noted = tuple[pl.DataFrame, tuple[str, ...]]


def without_duplicates(frame: pl.DataFrame, config: FilesConfig) -> Noted:
    """Applies `duplicates` to rows of the same user and item.

    Raises:
        DataError: If there are any and the rule is `refuse`; names their lines.
    """
    kept = frame.sort("moment", "row").unique(["user", "item"], keep="last", maintain_order=True).sort("row")
    n_more = frame.height - kept.height
    if config.duplicates == "keep-all" or not n_more:
        return frame, (f"{n_more} rows repeat a user and item and are kept",) if n_more else ()
    if config.duplicates == "refuse":
        first = frame.filter(pl.struct("user", "item").is_duplicated())["row"].head(5).to_list()
        raise DataError(
            f"{config.interactions}: {n_more} rows repeat a user and item (first in lines "
            f"{', '.join(map(str, first))}), dataset.duplicates is 'refuse'; 'keep-last' or 'keep-all' go on"
        )
    return kept, (f"{n_more} rows repeat a user and item; of each pair only the newest is kept",)


def filtered(frame: pl.DataFrame, config: FilesConfig) -> Noted:
    """Leaves out users and items with too few rows.

    Raises:
        DataError: If no rows are left.
    """
    rule = config.filter
    if rule is None:
        return frame, ()
    kept = keep_frequent(frame, users=rule.user_rows, items=rule.item_rows, until_stable=rule.by == "k-core")
    left = (
        f"{kept.height:,} of {frame.height:,} rows, {kept['user'].n_unique():,} of {frame['user'].n_unique():,} users "
        f"and {kept['item'].n_unique():,} of {frame['item'].n_unique():,} items are left"
    )
    if kept.is_empty():
        raise DataError(
            f"dataset.filter: {_words(rule)}: {left}; lower user_rows and item_rows, or use {{by: once}} where it is a "
            "k-core"
        )
    return kept, (
        f"filter {rule.by}: {_words(rule)}, counted over all splits before the split (so later rows decide, too): "
        f"{left}",
    )


def _words(rule: FilterRule) -> str:
    sides = {"users": rule.user_rows, "items": rule.item_rows}
    fewer = " and ".join(f"{side} with fewer than {least} rows" for side, least in sides.items() if least > 1)
    return f"{fewer} are removed {'until none is left' if rule.by == 'k-core' else 'in one pass'}"


def check_labels(frame: pl.DataFrame, config: FilesConfig) -> None:
    """Stops where all observed rows have one label.

    Raises:
        DataError: Shows what the values are.
    """
    found = frame["label"].unique().to_list()
    if len(found) > 1 or config.label.source == "positives":
        return
    class_name = "positive" if found == [0] else "negative"
    if config.label.source == "label":
        detail = f"column '{config.columns.label}' is {found[0]} in all {frame.height} rows"
    else:
        above = config.label.positive_above
        detail = f"ratings run from {frame['rating'].min()} to {frame['rating'].max()}, positive_above is {above}"
    more = ". Where every row is a positive, have negatives drawn: label: {from: positives}" if found == [1] else ""
    raise DataError(f"{config.interactions}: no row is {class_name}: {detail}; both are needed to learn from{more}")


def split_rows(frame: pl.DataFrame, config: FilesConfig) -> Noted:
    """Gives each row its split and its place in its user's order.

    Raises:
        DataError: If a split has no rows.
    """
    frame = _ordered(frame)
    rule, time = config.split, frame["timestamp"]
    notes: tuple[str, ...] = (RANDOM_NOTE,) if rule.by == "random" else ()
    if rule.by == "quantiles":
        split = split_by_global_time(time, valid=rule.valid or 0.0, test=rule.test or 0.0)
    elif rule.by == "dates":
        assert rule.valid_from is not None and rule.test_from is not None
        split = split_by_dates(time, train=_START, valid=rule.valid_from, test=rule.test_from, end=_END)
    elif rule.by == LAST_OUT:
        split, notes = split_last_out(frame, rule.last_out)
    elif rule.by == "random":
        shares = {"valid": rule.valid or 0.0, "test": rule.test or 0.0}
        split = split_at_random(frame.height, **shares, seed=rule.seed or 0)
    else:
        split = frame["split"]
    frame = frame.with_columns(split.alias("split"))
    if rule.by == "files":
        frame, notes = _by_files(frame, config)
    _check_splits(frame, config)
    return frame, notes


def _by_files(frame: pl.DataFrame, config: FilesConfig) -> Noted:
    """Takes validation rows out of training where they have no file; without times sets held-out rows behind it."""
    rule, has_times = config.split, config.columns.timestamp is not None
    how = "validation and test are files of their own"
    if rule.valid is not None:
        is_train = frame["split"] == "train"
        train = frame.filter(is_train)
        share, drawn = f"{rule.valid:.0%} of the training file's rows", rule.seed or 0
        if has_times:
            parts = split_by_global_time(train["timestamp"], valid=rule.valid, test=0.0)
            how = f"test is a file of its own, validation the newest {share}"
        else:
            parts = split_at_random(train.height, valid=rule.valid, test=0.0, seed=drawn)
            how = f"test is a file of its own, validation {share}, drawn with seed {drawn}"
        frame = pl.concat([train.with_columns(parts.alias("split")), frame.filter(~is_train)]).sort("row")
    if has_times:
        return frame, (f"split files: {how}; training rows may be later in time than theirs (collm data check)",)
    last = int(frame["row"].max() or 0)
    behind = pl.col("split").replace_strict({"train": 0, "valid": 1, "test": 2}, return_dtype=pl.Int64)
    time = pl.when(behind == 0).then("timestamp").otherwise(last + behind)
    frame = frame.with_columns(time.alias("timestamp"), time.alias("moment"))
    said = f"split files: {how}; histories show the user's items of earlier splits, none of the row's own"
    return _ordered(frame), (said,)


def _check_splits(frame: pl.DataFrame, config: FilesConfig) -> None:
    counts = dict(frame["split"].value_counts().iter_rows())
    if not (empty := [name for name in SPLITS if not counts.get(name)]):
        return
    has = ", ".join(f"{name or 'none'} {n}" for name, n in counts.items())
    detail = f"of {frame.height} rows split by {config.split.by}: {has}"
    if config.split.by in ("quantiles", "dates"):
        first, last = (datetime.fromtimestamp(frame["timestamp"].sort()[place], UTC).date() for place in (0, -1))
        detail += f"; times run from {first} to {last}"
    raise DataError(f"dataset.split: no rows for {', '.join(empty)} ({detail}); choose another rule, shares or dates")


def with_negatives(frame: pl.DataFrame, config: FilesConfig) -> Noted:
    """Draws rows with label 0 where every row is a positive.

    Raises:
        DataError: If nothing is left to draw in a split.
    """
    rule = config.label.negatives
    if rule is None:
        return frame, ()
    settings = {"per_positive": rule.per_positive, "seed": rule.seed}
    drawn = draw_negatives(frame, by=rule.by, **settings)
    has_times = config.columns.timestamp is not None
    return drawn.frame, notes_of(drawn, by=rule.by, has_times=has_times, **settings)


def _ordered(frame: pl.DataFrame) -> pl.DataFrame:
    """Orders rows of one second by their microseconds where the file has them."""
    finer = with_order(frame.select("user", pl.col("moment").alias("timestamp"), "row"))
    return frame.with_columns(finer["order"])
