"""Files of pairs to score: read with every bad row named, written with what is known of each id."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from collm.data.prepared import PreparedData
from collm.data.texts import as_series
from collm.errors import DataError
from collm.stages.evaluate import probabilities

REQUIRED = ("user", "item")
OPTIONAL = ("time", "title")
SHOWN_FAULTS = 10


@dataclass(frozen=True)
class Pairs:
    """Pairs to score, in the order of the file.

    Attributes:
        users: Raw user ids.
        items: Raw item ids.
        times: Seconds since 1970 UTC; None where the file has no column `time`.
        titles: Raw item id -> title, from the column `title`.
    """

    users: list[str]
    items: list[str]
    times: list[int] | None
    titles: Mapping[str, str]


def read_pairs(path: Path) -> Pairs:
    """Reads a CSV file with the columns user, item, and optionally time and title; other columns are refused.

    Raises:
        DataError: If the file is missing or no CSV, a column is missing or unknown, or a row is bad; names the lines.
    """
    try:
        frame = pl.read_csv(path, infer_schema=False, encoding="utf8")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: cannot be read as CSV ({str(error).splitlines()[0]})") from error
    _check_columns(path, frame)
    # Line 1 is the header.
    faults = [
        *_faults(frame, "user", lambda text: bool(text), "is empty"),
        *_faults(frame, "item", lambda text: bool(text), "is empty"),
        *(_faults(frame, "time", _is_time, "must be whole seconds since 1970 UTC") if "time" in frame.columns else ()),
    ]
    if faults:
        shown = "; ".join(message for _, message in sorted(faults)[:SHOWN_FAULTS])
        more = f"; and {len(faults) - SHOWN_FAULTS} more" if len(faults) > SHOWN_FAULTS else ""
        raise DataError(f"{path}: {shown}{more}")
    titles = {}
    if "title" in frame.columns:
        titles = {item: title for item, title in frame.select("item", "title").iter_rows() if title}
    return Pairs(
        users=frame["user"].to_list(),
        items=frame["item"].to_list(),
        times=[int(text) for text in frame["time"]] if "time" in frame.columns else None,
        titles=titles,
    )


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
        frame = frame.with_columns(time=pl.Series(pairs.times))
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


def _check_columns(path: Path, frame: pl.DataFrame) -> None:
    missing = [name for name in REQUIRED if name not in frame.columns]
    unknown = [name for name in frame.columns if name not in (*REQUIRED, *OPTIONAL)]
    if missing or unknown:
        found = f"it has {', '.join(frame.columns)}"
        what = f"lacks the column {', '.join(missing)}" if missing else f"has unknown columns {', '.join(unknown)}"
        raise DataError(f"{path}: {what}; {found}; allowed are user, item, time (optional), title (optional)")
    if frame.height == 0:
        raise DataError(f"{path}: has no rows below its header")


def _is_time(text: str | None) -> bool:
    return text is not None and text.strip().lstrip("-").isdigit()


def _faults(
    frame: pl.DataFrame, column: str, is_good: Callable[[str | None], bool], message: str
) -> list[tuple[int, str]]:
    return [
        (line, f"line {line}: {column} {message} (got {'nothing' if text is None else repr(text)})")
        for line, text in enumerate(frame[column].to_list(), start=2)
        if not is_good(text)
    ]
