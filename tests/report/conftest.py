"""Run folders with made-up scores, as `collm run` writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from report_fakes import WriteRun, scores

from collm.registry import Registry, default_registry
from collm.rescore import Measure, measure_scores
from collm.stages.evaluate import build_metrics

CURVE = [{"step": 1, "valid_auc": 0.6}, {"step": 2, "valid_auc": 0.7}]
EVALUATE = {"splits": ["test"], "slices": ["all", "warm", "cold"], "metrics": ["auc", "uauc", "ndcg"]}
MACHINE = {"processor": "test", "cores": 2, "torch": {"devices": []}}


@pytest.fixture(scope="session")
def registry() -> Registry:
    """The installed components."""
    return default_registry()


@pytest.fixture(scope="session")
def measure(registry: Registry) -> Measure:
    """Measures of a run with default settings, few resamples."""
    metrics = build_metrics(["auc", "uauc", "ndcg"], registry)
    return Measure(warm="at-least-3", cold="rest", slices=("all", "warm", "cold"), metrics=metrics, resamples=200)


@pytest.fixture
def write_run(tmp_path: Path, measure: Measure) -> WriteRun:
    """Writes a finished run folder and returns its path."""

    def write(
        name: str,
        *,
        noise: float = 1.0,
        seed: int = 0,
        frame: pl.DataFrame | None = None,
        spec: Mapping[str, Any] | None = None,
        floors: bool = True,
        **more: Any,
    ) -> Path:
        folder = tmp_path / "runs" / f"{name.replace('/', '-')[:30]}-{seed:010d}"
        folder.mkdir(parents=True)
        found = scores(noise, seed) if frame is None else frame
        found.write_parquet(folder / "scores.parquet")
        if floors:
            floor = np.random.default_rng(1).random(found.height)
            pl.DataFrame({"split": found["split"], "row": found["row"], "item-mean": floor}).write_parquet(
                folder / "floors.parquet"
            )
        content = {
            "schema": 1,
            "name": name,
            "run": name,
            "spec_hash": f"{seed:010d}",
            "seed": seed,
            "profile": "recommended",
            "metrics": measure_scores(found, measure),
            "floors": {},
            "timing": {
                "fit_encoder": {"seconds": 0.0, "reused": True, "work_seconds": 4.0},
                "evaluate": {"seconds": 2.0, "reused": False, "work_seconds": 2.0},
            },
            "counts": {"train": 10, "valid": 10, "test": 480, "users": 40, "items": 7},
            "full_counts": {"train": 10, "valid": 10, "test": 480, "users": 40, "items": 7},
            "protocol": {"visibility": "strictly-earlier", "tie_rule": "file order"},
            "facts": {
                "encoder": {"best_step": 2, "curve": [{"step": 1, "valid_auc": 0.6}, {"step": 2, "valid_auc": 0.7}]}
            },
            "notes": ["made-up data"],
        }
        plain = {
            "name": name,
            "seed": seed,
            "history": {"visibility": "strictly-earlier", "max_items": 10},
            "slices": {"warm": "at-least-3", "cold": "rest"},
            "evaluate": {
                "splits": ["test"],
                "slices": ["all", "warm", "cold"],
                "metrics": ["auc", "uauc", "ndcg"],
                "resamples": 200,
            },
        }
        (folder / "results.json").write_text(json.dumps(content | more))
        (folder / "spec.yaml").write_text(yaml.safe_dump(plain | dict(spec or {})))
        (folder / "environment.json").write_text(json.dumps(MACHINE))
        (folder / "done").write_text("now\n")
        return folder

    return write
