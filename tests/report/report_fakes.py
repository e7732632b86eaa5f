"""Made-up scores."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import yaml

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


def ranked(seed: int = 0, *, depth: int = 10, split: str = SPLIT, n_users: int = 30) -> pl.DataFrame:
    """Ranked lists of 30 candidates per user with two positives, of a method and the floor `popularity`.

    The best `depth` items of each list and the positives are kept, as in `ranking.parquet`.
    """
    parts = []
    for method, own in (("", seed), ("popularity", 12_345)):
        generator = np.random.default_rng(own)
        for user in range(n_users):
            rank = generator.permutation(30) + 1
            kept = np.flatnonzero((rank <= depth) | (np.arange(30) < 2))
            parts.append(
                pl.DataFrame(
                    {
                        "split": [split] * len(kept),
                        "protocol": ["all"] * len(kept),
                        "method": [method] * len(kept),
                        "user": [str(100 + user)] * len(kept),
                        "item": [str(item) for item in kept],
                        "label": (kept < 2).astype(np.int8),
                        "rank": rank[kept].astype(np.int32),
                        "score": -rank[kept].astype(np.float32),
                        "candidates": np.full(len(kept), 30, np.int32),
                        "user_train_rows": np.full(len(kept), 9),
                        "item_train_rows": np.full(len(kept), 9),
                        "timestamp": np.full(len(kept), 1_000_000),
                    }
                )
            )
    return pl.concat(parts)


def rank(folder: Path, *metrics: str, seed: int = 0, depth: int = 10, split: str = SPLIT) -> Path:
    """Adds ranked lists of the whole catalogue to a run folder and returns the folder."""
    ranked(seed, depth=depth, split=split).write_parquet(folder / "ranking.parquet")
    path = folder / "results.json"
    facts = {"users": 30, "positives": 60, "candidates": 30.0, "depth": depth}
    more = {"ranking": {split: {"all": {}}}, "ranking_facts": {split: {"all": facts}}}
    path.write_text(json.dumps(json.loads(path.read_text()) | more))
    path = folder / "spec.yaml"
    spec = yaml.safe_load(path.read_text())
    spec["evaluate"]["ranking"] = {"metrics": list(metrics)}
    path.write_text(yaml.safe_dump(spec))
    return folder


def gather(registry: Registry, *folders: Path) -> Collected:
    """Collects run folders as a report does."""
    return collect(folders, Reading(Path("runs"), registry, BuildContext(cache_dir=Path("runs"))))
