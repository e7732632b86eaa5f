"""Made-up scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from collm.component import BuildContext
from collm.registry import Registry
from collm.report.collect import Collected, Reading, collect

SPLIT = "test"
WriteRun = Callable[..., Path]


def scores(noise: float, seed: int = 0, n_users: int = 40, n_rows: int = 12) -> pl.DataFrame:
    """Labels and scores of `n_users` users; less noise is a better method. Labels do not depend on `seed`."""
    data = np.random.default_rng(99)
    n = n_users * n_rows
    label = (data.random(n) < 0.6).astype(np.int8)
    logit = (label - 0.5) * 2 + noise * np.random.default_rng(seed).normal(size=n)
    return pl.DataFrame(
        {
            "split": [SPLIT] * n,
            "row": np.arange(n),
            "user": [str(100 + index // n_rows) for index in range(n)],
            "item": [str(index % 7) for index in range(n)],
            "label": label,
            "logit": logit.astype(np.float32),
            "score": 1 / (1 + np.exp(-logit)),
            "user_train_rows": np.repeat(np.arange(n_users) % 6, n_rows),
            "item_train_rows": np.full(n, 9),
        }
    )


def gather(registry: Registry, *folders: Path) -> Collected:
    """Collects run folders as a report does."""
    return collect(folders, Reading(Path("runs"), registry, BuildContext(cache_dir=Path("runs"))))
