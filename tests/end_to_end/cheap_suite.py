"""A suite of many cheap runs that share stages, and what its results hold apart from how long they took."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SUITE = """\
name: many
base:
  name: many
  dataset: {name: tiny}
  encoder: {name: mf-bias, embedding_size: 4, fit: {epochs: 2}}
  evaluate: {resamples: 20}
matrix:
  encoder.embedding_size: [2, 3, 4]
  encoder.fit.learning_rate: [0.01, 0.02]
seeds: [0, 1, 2, 3]
"""
N_RUNS = 24
TWO = ("--only", "many-embedding_size2-learning_rate0.01", "--only", "many-embedding_size4-learning_rate0.02")
HERE = ("--device", "cpu", "--threads", "1")


def write_suite(folder: Path, seeds: int = 4) -> Path:
    """Writes the suite with its first seeds: six runs each."""
    path = folder / "suite.yaml"
    path.write_text(SUITE.replace("[0, 1, 2, 3]", str(list(range(seeds)))), encoding="utf-8")
    return path


def stored(runs_dir: Path) -> dict[str, dict[str, Any]]:
    """Returns run folder -> its results, without the times that only say how long and by whom."""
    found = {path.parent.name: json.loads(path.read_text()) for path in runs_dir.glob("*/results.json")}
    for results in found.values():
        results["timing"] = {name: each["kind"] for name, each in results["timing"].items()}
        for facts in results["facts"].values():
            for each in facts.get("curve", ()):
                each.pop("seconds", None)
    return found
