"""Pairs to score, of a file or of a request: every bad row named; written with what is known of each id."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from collm.data.columns import as_series
from collm.data.pairs import NO_TIME, are_times, asked_seconds, unit_of
from collm.data.prepared import PreparedData
from collm.errors import DataError
from collm.ingest.bad_rows import BadRows
from collm.ingest.ids import id_fault, one_spelling
from collm.ingest.read_rows import read_rows, sample_file
from collm.ingest.typed_rows import WantedColumns, read_parquet_rows
from collm.stages.score_tables import probabilities
from collm.trained.model import TrainedModel

REQUIRED = ("user", "item")
OPTIONAL = ("time", "title")
SHOWN_FAULTS = 10
_SHOWN_NOTES = 5
_SHOWN_TITLE = 60


@dataclass(frozen=True)
class Pairs:
    """Pairs to score, in the order in which they were given.

    Attributes:
        users: Raw user ids.
        items: Raw item ids.
        times: As they were given; None where there is no column `time`.
        titles: Raw item id -> title, from the column `title`.
        path: The file, or what stands for it in messages.
        lines: int64, line of each pair in the file, or its number in the request.
        unit: What messages call one of `lines`.
    """

    users: list[str]
    items: list[str]
    times: pl.Series | None
    titles: Mapping[str, str]
    path: Path
    lines: pl.Series
    unit: str = "line"

    def seconds(self, data: PreparedData) -> list[int] | None:
        """Returns when each pair is asked, in seconds as the dataset counts them; None where the file has no times.

        Raises:
            DataError: If a value is not such a time; names the lines.
        """
        if self.times is None:
            return None
        found = asked_seconds(self.times, data)
        faults = _faults(self.times, self._places, found.is_null(), f"time {unit_of(data)}")
        refuse(self.path, faults)
        return [int(second) for second in found]

    @property
    def _places(self) -> _Places:
        return _Places(self.lines, self.unit)


@dataclass(frozen=True)
class _Places:
    """Where each row was given: its line, and what a line is called."""

    lines: pl.Series
    unit: str

    def faults(self, bad: pl.Series, message: Callable[[int], str]) -> list[tuple[int, str]]:
        """Returns (line, what is wrong there) of the rows where `bad` is true."""
        rows = [int(row) for row in bad.arg_true()]
        return [(int(self.lines[row]), f"{self.unit} {self.lines[row]}: {message(row)}") for row in rows]


def read_pairs(path: Path, rows: range | None = None) -> Pairs:
    """Reads the columns user, item, and optionally time and title, from a file in any format that datasets are read in.

    Args:
        path: The file.
        rows: Rows of a parquet file, from 0, without gaps; None = all rows of any file.

    Raises:
        DataError: If the file is missing or cannot be read, a column is missing or unknown, or a row is bad; names the
            lines.
    """
    sample = sample_file(path, may_be_empty=True).rows
    _check_columns(path, sample.columns)
    names = [name for name in (*REQUIRED, *OPTIONAL) if name in sample.columns]
    types = {name: sample.schema[name] if name == "time" else text_or_whole(sample.schema[name]) for name in names}
    bad = BadRows()
    wanted = WantedColumns({name: (name,) for name in names}, types, ids=REQUIRED)
    frame = read_rows(path, wanted, bad=bad) if rows is None else read_parquet_rows(path, wanted, bad=bad, rows=rows)
    listed = [(int(line), f"line {line}: {reason} ({text})") for _, line, reason, text in bad.frame().iter_rows()]
    if frame.is_empty() and not listed:
        raise DataError(f"{path}: has no rows below its header")
    return checked_pairs(frame, path, listed=listed)


def checked_pairs(
    frame: pl.DataFrame, path: Path, *, unit: str = "line", listed: Sequence[tuple[int, str]] = ()
) -> Pairs:
    """Returns the pairs of a table.

    Args:
        frame: Columns user and item (text), optional time (numbers, text or dates) and title, and `line` int64.
        path: The file, or what stands for it in messages.
        unit: What messages call a `line`.
        listed: Faults found before: (line, message).

    Raises:
        DataError: If there are faults, two titles of one item among them; names the lines.
    """
    lines, found = frame["line"], list(listed)
    places = _Places(lines, unit)
    for name in REQUIRED:
        found += _faults(frame[name], places, frame[name].is_null(), f"{name} is empty")
        reasons = frame.select(id_fault(name).alias("reason"))["reason"]
        found += places.faults(reasons.is_not_null(), reasons.__getitem__)
    if "time" in frame.columns:
        found += _faults(frame["time"], places, ~are_times(frame["time"]), f"time {NO_TIME}")
    refuse(path, found)
    users, items = (one_spelling(frame[name], lines, name=name, path=path) for name in REQUIRED)
    titles = _titles(items, frame["title"], path, places) if "title" in frame.columns else {}
    times = frame["time"] if "time" in frame.columns else None
    return Pairs(users.to_list(), items.to_list(), times, titles, path, lines, unit)


def age_notes(model: TrainedModel, *, timed: bool) -> tuple[str, ...]:
    """Says from when ages in prompts count where what is asked has no time."""
    if not model.spec.history.ages or timed:
        return ()
    return ("prompts say how long ago items were rated: without a time that counts from the dataset's last row",)


def title_notes(pairs: Pairs, model: TrainedModel) -> tuple[str, ...]:
    """Says which titles of pairs the model does not use, in a few sentences."""
    if pairs.titles and model.language is None:
        return ("titles are not used: the run has no language model that could read them",)
    notes = list(_unused_titles(pairs, model))
    more = (f"and {len(notes) - _SHOWN_NOTES:,} more items",) if len(notes) > _SHOWN_NOTES else ()
    return (*notes[:_SHOWN_NOTES], *more)


def _unused_titles(pairs: Pairs, model: TrainedModel) -> Iterator[str]:
    for (item, title), place in zip(pairs.titles.items(), model.item_places.of(list(pairs.titles)), strict=True):
        if place and (own := model.data.titles[place]) != title:
            yield f"item {item}: the dataset's own title {own!r} is used, not the one given"


def scored_frame(pairs: Pairs, logits: np.ndarray[Any, Any], data: PreparedData) -> pl.DataFrame:
    """Returns what `collm score` writes: the pairs, their scores, and what the model knew of both ids.

    Args:
        pairs: The pairs.
        logits: float32 [n] logits of the pairs.
        data: Data of the run.

    Returns:
        Columns user, item, (time,) logit, score (its probability), user_known, item_known, user_train_rows,
        item_train_rows, cold: whether either id has no training row.
    """
    places = {
        "user": as_series(data.user_ids[1:], "user").to_frame().with_columns(rows=pl.Series(data.user_train_rows[1:])),
        "item": as_series(data.item_ids[1:], "item").to_frame().with_columns(rows=pl.Series(data.item_train_rows[1:])),
    }
    frame = pl.DataFrame({"user": pairs.users, "item": pairs.items})
    if pairs.times is not None:
        frame = frame.with_columns(pairs.times.alias("time"))
    frame = frame.with_columns(logit=pl.Series(logits), score=pl.Series(probabilities(logits)))
    for name in REQUIRED:
        counts = frame.select(name).join(places[name], on=name, how="left", maintain_order="left")["rows"]
        frame = frame.with_columns(
            counts.is_not_null().alias(f"{name}_known"), counts.fill_null(0).alias(f"{name}_train_rows")
        )
    cold = (pl.col("user_train_rows") == 0) | (pl.col("item_train_rows") == 0)
    known = ["user_known", "item_known", "user_train_rows", "item_train_rows"]
    return frame.select(
        *[name for name in ("user", "item", "time", "logit", "score") if name in frame.columns], *known
    ).with_columns(cold=cold)


def _titles(items: pl.Series, titles: pl.Series, path: Path, places: _Places) -> dict[str, str]:
    """Returns the title of each item that has one; refuses a second one."""
    given = pl.DataFrame({"item": items, "title": titles.cast(pl.String), "line": places.lines})
    given = given.filter(pl.col("title") != "")
    first = given.unique("item", keep="first", maintain_order=True)
    both = given.join(first, on="item", suffix="_first", maintain_order="left")
    refuse(
        path,
        [
            (
                line,
                f"{places.unit} {line}: item '{item}' has the title {title[:_SHOWN_TITLE]!r} here and "
                f"{other[:_SHOWN_TITLE]!r} in {places.unit} {other_line}; give one",
            )
            for item, title, line, other, other_line in both.filter(pl.col("title") != pl.col("title_first")).rows()
        ],
    )
    return dict(zip(first["item"], first["title"], strict=True))


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    missing = [name for name in REQUIRED if name not in columns]
    unknown = [name for name in columns if name not in (*REQUIRED, *OPTIONAL)]
    if missing or unknown:
        found = f"it has {', '.join(columns)}"
        what = f"lacks the column {', '.join(missing)}" if missing else f"has unknown columns {', '.join(unknown)}"
        raise DataError(f"{path}: {what}; {found}; allowed are user, item, time (optional), title (optional)")


def text_or_whole(dtype: pl.DataType) -> pl.DataType:
    """Returns the type that ids and titles of a column are read in."""
    return pl.Int64() if dtype.is_integer() else pl.String()


def _faults(values: pl.Series, places: _Places, bad: pl.Series, message: str) -> list[tuple[int, str]]:
    def said(row: int) -> str:
        value = values[row]
        return f"{message} (got {'nothing' if value is None else repr(value)})"

    return places.faults(bad, said)


def refuse(path: Path, faults: Sequence[tuple[int, str]], *, end: str = "") -> None:
    """Refuses a file with faults, the first of them by line.

    Raises:
        DataError: If there are any.
    """
    if not faults:
        return
    shown = "; ".join(message for _, message in sorted(faults)[:SHOWN_FAULTS])
    more = f"; and {len(faults) - SHOWN_FAULTS} more" if len(faults) > SHOWN_FAULTS else ""
    raise DataError(f"{path}: {shown}{more}{end}")
