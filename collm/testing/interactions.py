"""Generated interactions of any size, written part by part: what a large log looks like to the code that reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

Array = np.ndarray[Any, Any]

_PART_ROWS = 4_000_000
_FIRST_SECOND = 1_609_459_200  # 2021-01-01 UTC
_SECONDS = 3 * 365 * 86_400
_LAST_ID = 1 << 40
# Odd, so that multiplying by it modulo a power of two is one to one: raw ids say nothing of how frequent they are.
_SCATTER = 0x9E37_79B9_7F4A_7C15


@dataclass(frozen=True)
class LogShape:
    """Size of a generated log.

    Attributes:
        n_rows: Interactions.
        n_users: Users at most; activity falls with the square root of a user's rank.
        n_items: Items at most; popularity falls with the rank (Zipf).
    """

    n_rows: int
    n_users: int
    n_items: int

    @classmethod
    def of_rows(cls, n_rows: int) -> LogShape:
        """Returns the shape with 20 rows per user and 100 per item: 100 million rows are 5 and 1 million of them."""
        return cls(n_rows, max(n_rows // 20, 1), max(n_rows // 100, 1))


def write_log(folder: Path, shape: LogShape, *, seed: int = 0, ids: Literal["int", "text"] = "int") -> None:
    """Writes `part-0000.parquet` ... with `user`, `item`, `rating` (half stars), `timestamp`, in no order of time.

    Args:
        folder: Where to write; made if missing.
        shape: Rows, users, items.
        seed: Decides all values.
        ids: `int`: int64; `text`: 14 characters, as of a web shop.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, first in enumerate(range(0, shape.n_rows, _PART_ROWS)):
        generator = np.random.default_rng([seed, number])
        frame = _part(generator, shape, min(_PART_ROWS, shape.n_rows - first))
        if ids == "text":
            frame = frame.with_columns(
                pl.format("U{}", pl.col("user").cast(pl.String).str.zfill(13)).alias("user"),
                pl.format("I{}", pl.col("item").cast(pl.String).str.zfill(13)).alias("item"),
            )
        frame.write_parquet(folder / f"part-{number:04}.parquet")


def _part(generator: np.random.Generator, shape: LogShape, n_rows: int) -> pl.DataFrame:
    user = (shape.n_users * generator.random(n_rows) ** 2).astype(np.uint64)
    item = (shape.n_items ** generator.random(n_rows)).astype(np.uint64)
    # Taste: a user's stars and an item's stars, so that labels are not noise.
    liking = _unit(user + np.uint64(7)) + _unit(item) + generator.random(n_rows)
    return pl.DataFrame(
        {
            "user": _raw(user),
            "item": _raw(item),
            "rating": (np.ceil(liking / 3 * 10) / 2).clip(0.5, 5).astype(np.float32),
            "timestamp": _FIRST_SECOND + generator.integers(0, _SECONDS, n_rows),
        }
    )


def _raw(rank: Array) -> Array:
    return ((rank * np.uint64(_SCATTER)) % np.uint64(_LAST_ID)).astype(np.int64)


def _unit(number: Array) -> Array:
    return _raw(number) / _LAST_ID
