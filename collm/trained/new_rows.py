"""New interactions of a file, labelled as the rows of a finished run are; every bad row is named."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from collm.contracts.data import SAMPLED
from collm.data.extended import NewInteractions
from collm.data.prepared import PreparedData
from collm.errors import DataError
from collm.ingest.bad_rows import BadRows
from collm.ingest.label_values import labels_of, numbers_of, shown_value
from collm.ingest.read_rows import read_rows, sample_file
from collm.ingest.typed_rows import WantedColumns
from collm.trained.pairs_file import Pairs, checked_pairs, refuse, text_or_whole

ALLOWED = ("user", "item", "label", "rating", "timestamp", "title")
_SHOWN_NOTES = 5


@dataclass(frozen=True)
class RatingRule:
    """How a dataset's labels follow from its ratings, read off its rows.

    Attributes:
        disliked: Highest rating with label 0.
        liked: Lowest rating with label 1, greater than `disliked`.
    """

    disliked: float
    liked: float

    @classmethod
    def of(cls, data: PreparedData) -> RatingRule | None:
        """Returns the rule; None where rows have no ratings, or labels do not follow from them."""
        rating = data.optional_column("rating")
        if rating is None:
            return None
        known = ~np.isnan(rating)
        if (sampled := data.optional_column(SAMPLED)) is not None:
            known &= ~sampled
        label = data.column("label")
        liked, disliked = rating[known & (label == 1)], rating[known & (label == 0)]
        if not len(liked) or not len(disliked) or disliked.max() >= liked.min():
            return None
        return cls(float(disliked.max()), float(liked.min()))


def read_new_rows(path: Path, data: PreparedData, *, needs_titles: bool) -> tuple[NewInteractions, list[str]]:
    """Reads new rows: columns user, item, timestamp, label or rating or both, and title for new items.

    Args:
        path: CSV, JSON or parquet.
        data: Data of the run that they are added to.
        needs_titles: Whether new items must have a title, because a language model reads it.

    Returns:
        The rows, and sentences on what is not as usual.

    Raises:
        DataError: If the file is missing, empty or cannot be read, a column is missing or unknown, or a row is bad;
            names the lines.
    """
    sample = sample_file(path, may_be_empty=True).rows
    _check_columns(path, sample.columns, data)
    names = [name for name in ALLOWED if name in sample.columns]
    as_given = ("timestamp", "label", "rating")
    types = {name: sample.schema[name] if name in as_given else text_or_whole(sample.schema[name]) for name in names}
    bad = BadRows()
    wanted = WantedColumns({name: (name,) for name in names}, types, ids=("user", "item"))
    frame = read_rows(path, wanted, bad=bad)
    listed = [(int(line), f"line {line}: {reason} ({text})") for _, line, reason, text in bad.frame().iter_rows()]
    if frame.is_empty() and not listed:
        raise DataError(f"{path}: has no rows below its header, so there is nothing to update with")
    pairs = checked_pairs(frame.rename({"timestamp": "time"}, strict=False), path, listed=listed)
    rating = numbers_of(frame["rating"]) if "rating" in names else pl.Series([None] * frame.height, dtype=pl.Float64)
    refuse(path, list(_rating_faults(frame, rating)))
    label = _labels(path, frame, rating, data)
    seconds = pairs.seconds(data) or _counted_on(data, frame.height)
    rows = pl.DataFrame(
        {
            "user": pl.Series(pairs.users, dtype=pl.String),
            "item": pl.Series(pairs.items, dtype=pl.String),
            "label": label.cast(pl.Int8),
            "rating": rating.cast(pl.Float32),
            "timestamp": pl.Series(seconds, dtype=pl.Int64),
        }
    )
    refuse(path, list(_repeated(rows, pairs.lines)))
    refuse(path, list(_known_rows(rows, pairs.lines, data)))
    new = NewInteractions(rows, pairs.titles)
    if needs_titles:
        _require_titles(new, pairs, data)
    return new, list(_notes(new, data))


def _check_columns(path: Path, columns: Sequence[str], data: PreparedData) -> None:
    wanted = ["user", "item", *(["timestamp"] if data.has_times else [])]
    faults = [f"lacks the column {name}" for name in wanted if name not in columns]
    if "label" not in columns and "rating" not in columns:
        faults.append("has neither a column label nor a column rating")
    if "timestamp" in columns and not data.has_times:
        faults.append("has a column timestamp, but the parent's data has no times: the order of the file counts")
    for name in columns:
        if name not in ALLOWED:
            close = ["timestamp"] if "time" in name.lower() else difflib.get_close_matches(name, ALLOWED, n=1)
            hint = f" (did you mean '{close[0]}'?)" if close else ""
            faults.append(f"has the unknown column '{shown_value(name)}'{hint}")
    if faults:
        raise DataError(
            f"{path}: {'; '.join(faults)}. It has {', '.join(map(shown_value, columns))}; allowed are user, item, "
            "timestamp, label (0 or 1) or rating or both, and title (of new items)"
        )


def _rating_faults(frame: pl.DataFrame, rating: pl.Series) -> Iterator[tuple[int, str]]:
    if "rating" not in frame.columns:
        return
    must = "label" not in frame.columns
    given = frame["rating"].is_not_null()
    for row in ((given | must) & rating.is_null()).arg_true():
        line, value = frame["line"][row], frame["rating"][row]
        yield line, f"line {line}: rating must be a number (got {'nothing' if value is None else repr(value)})"


def _labels(path: Path, frame: pl.DataFrame, rating: pl.Series, data: PreparedData) -> pl.Series:
    """Returns int8 labels: those of the file, or what the parent's rule makes of ratings; both must agree."""
    rule, faults = RatingRule.of(data), []
    given = labels_of(frame["label"]) if "label" in frame.columns else None
    if given is not None:
        for row in given.is_null().arg_true():
            line, value = frame["line"][row], frame["label"][row]
            shown = "nothing" if value is None else repr(value)
            faults.append((line, f"line {line}: label must be 0 or 1, or a word such as yes and no (got {shown})"))
        refuse(path, faults)
    if rule is None:
        if given is None:
            raise DataError(
                f"{path}: has ratings alone, but in the parent's data labels do not follow from ratings; give a column "
                "label of 0 and 1"
            )
        return given
    found = pl.DataFrame({"rating": rating}).select(
        pl.when(pl.col("rating") >= rule.liked).then(1).when(pl.col("rating") <= rule.disliked).then(0)
    )
    by_rule = found.to_series()
    unclear = rating.is_not_null() & by_rule.is_null()
    said = f"the parent's rows have label 0 up to {rule.disliked:g} and label 1 from {rule.liked:g}"
    for row in unclear.arg_true() if given is None else ():
        line = frame["line"][row]
        faults.append((line, f"line {line}: rating {rating[row]:g} lies between: {said}; give a column label"))
    if given is not None:
        for row in ((by_rule != given) & by_rule.is_not_null()).arg_true():
            line = frame["line"][row]
            faults.append((line, f"line {line}: label {given[row]} with rating {rating[row]:g}, but {said}"))
    refuse(path, faults)
    return by_rule if given is None else given


def _counted_on(data: PreparedData, n: int) -> list[int]:
    """Returns numbers behind those that stand in for times."""
    last = int(data.column("timestamp").max())
    return list(range(last + 1, last + 1 + n))


def _repeated(rows: pl.DataFrame, lines: pl.Series) -> Iterator[tuple[int, str]]:
    key = ["user", "item", "timestamp"]
    placed = rows.with_columns(line=lines)
    first = placed.unique(key, keep="first", maintain_order=True)
    both = placed.join(first, on=key, suffix="_first", maintain_order="left")
    for row in both.filter(pl.col("line") != pl.col("line_first")).iter_rows(named=True):
        yield row["line"], f"line {row['line']}: user, item and time are those of line {row['line_first']}; keep one"


def _known_rows(rows: pl.DataFrame, lines: pl.Series, data: PreparedData) -> Iterator[tuple[int, str]]:
    old = data.interactions().select(
        pl.col("user").cast(pl.UInt32), pl.col("item").cast(pl.UInt32), pl.col("timestamp")
    )
    for side, table in (("user", data.user_table()), ("item", data.item_table())):
        names = table.select(pl.col(side).cast(pl.UInt32), pl.col("id"))
        old = old.join(names, on=side, how="left").drop(side).rename({"id": side})
    known = rows.with_columns(line=lines).join(old, on=["user", "item", "timestamp"], how="semi")
    for row in known.iter_rows(named=True):
        yield (
            row["line"],
            f"line {row['line']}: user '{shown_value(row['user'])}' has item '{shown_value(row['item'])}' at this time "
            "in the parent's data already; leave the row out",
        )


def _require_titles(new: NewInteractions, pairs: Pairs, data: PreparedData) -> None:
    without = set(new.new_ids(data, "item")) - set(new.titles)
    faults, said = [], set()
    for item, line in zip(pairs.items, pairs.lines, strict=True):
        if item in without and item not in said:
            said.add(item)
            faults.append((int(line), f"line {line}: item '{shown_value(item)}' is new and has no title"))
    if faults:
        refuse(pairs.path, faults, end="; the language model reads titles: give them in a column title")


def _unusual_ratings(rating: pl.Series, data: PreparedData) -> Iterator[str]:
    """Says so where ratings lie outside of those that the parent has: they may be of another scale."""
    before = data.optional_column("rating")
    if before is None or np.isnan(before).all():
        return
    low, high = float(np.nanmin(before)), float(np.nanmax(before))
    outside = rating.filter((rating < low) | (rating > high))
    if len(outside):
        yield (
            f"{len(outside):,} of {len(rating):,} new ratings (e.g. {outside[0]:g}) lie outside of those of the "
            f"parent's data, {low:g} to {high:g}: is it another scale?"
        )


def _notes(new: NewInteractions, data: PreparedData) -> Iterator[str]:
    rows = new.frame
    last = int(data.column("timestamp").max())
    if early := rows.filter(pl.col("timestamp") < last).height:
        yield (
            f"{early:,} of {rows.height:,} new rows are earlier than the last row of the parent's data, so the parent "
            "was trained on rows that are later than they are."
        )
    yield from _unusual_ratings(rows["rating"], data)
    own = dict(zip(data.item_ids, data.titles, strict=True))
    others = [(item, title) for item, title in new.titles.items() if item in own and own[item] != title]
    for item, title in others[:_SHOWN_NOTES]:
        yield f"Item {item}: the title of the parent's data {own[item]!r} is kept, not {title!r} of the new rows."
    if len(others) > _SHOWN_NOTES:
        yield f"So it is with {len(others) - _SHOWN_NOTES:,} more items."
    if rows["label"].n_unique() < 2:
        yield f"All {rows.height:,} new rows have the label {rows['label'][0]}, so no AUC says how they were scored."
