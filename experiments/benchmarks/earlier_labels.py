"""Measures all numbers of encoder `online` for every row of a table that is drawn at random.

Run:      python experiments/benchmarks/earlier_labels.py [--rows 1000000] [--users 60000] [--items 20000]
Time:     seconds for a million rows on 2 processor cores
Shows:    one sort and one pass over the rows, then a look-up in O(log rows) for each row that is asked
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl

from collm.data.earlier import EarlierLabels

HALF_LIVES = (6.58, 30.0)
CHUNK = 1 << 20


def table(n_rows: int, n_users: int, n_items: int, seed: int = 0) -> Any:
    """Draws rows whose users and items are as unequal as in a log of clicks."""
    generator = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "user": (n_users * generator.random(n_rows) ** 2).astype(np.int32) + 1,
            "item": (n_items * generator.random(n_rows) ** 3).astype(np.int32) + 1,
            "label": generator.integers(0, 2, n_rows, dtype=np.int8),
            "timestamp": generator.integers(1_000_000_000, 1_060_000_000, n_rows),
        }
    )
    return SimpleNamespace(visibility="strictly-earlier", interactions=lambda: frame)


def main() -> None:
    """Prints seconds of building and of reading, and the peak of memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=60_000)
    parser.add_argument("--items", type=int, default=20_000)
    given = parser.parse_args()
    data = table(given.rows, given.users, given.items)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    earlier = EarlierLabels(data, half_lives=HALF_LIVES)
    built = time.perf_counter()
    frame = data.interactions()
    user, item, moment = (frame[name].to_numpy() for name in ("user", "item", "timestamp"))
    for first in range(0, given.rows, CHUNK):
        part = slice(first, first + CHUNK)
        asked = user[part].astype(np.int64), item[part].astype(np.int64), moment[part]
        earlier.before(*asked)
    read = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sys.stdout.write(
        f"{given.rows:,} rows: built in {built - started:.1f} s, read in {read - built:.1f} s, "
        f"{(peak - before) / 1e6:.2f} GB more than the table's {before / 1e6:.2f} GB\n"
    )


if __name__ == "__main__":
    main()
