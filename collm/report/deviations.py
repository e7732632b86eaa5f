"""Where a run departs from the paper, each departure with the number of the fact that tells of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from collm.spec.profiles import CHOICES

PAPER_BACKBONES = ("vicuna-7b", "qwen2-1.5b")


@dataclass(frozen=True)
class Deviation:
    """One departure.

    Attributes:
        field: Dotted path in the spec.
        value: What the run used.
        paper: What the paper used.
        facts: Numbers of reference facts; empty where the paper itself says it.
    """

    field: str
    value: str
    paper: str
    facts: tuple[int, ...] = ()


def deviations(spec: Mapping[str, Any], results: Mapping[str, Any]) -> list[Deviation]:
    """Lists a run's departures from the paper.

    Args:
        spec: The resolved spec as plain data.
        results: Content of `results.json`.
    """
    found = []
    for path, choice in CHOICES.items():
        section, _, name = path.partition(".")
        if name not in (spec.get(section) or {}):
            continue
        used, paper = spec[section][name], choice.of("paper")
        if used != paper:
            found.append(Deviation(path, str(used), str(paper), choice.facts))
    backbone = (spec.get("backbone") or {}).get("name")
    if backbone is not None and backbone not in PAPER_BACKBONES:
        found.append(Deviation("backbone.name", str(backbone), " or ".join(PAPER_BACKBONES)))
    found.extend(_limits(results))
    return found


def _limits(results: Mapping[str, Any]) -> list[Deviation]:
    counts, full = results.get("counts", {}), results.get("full_counts", {})
    found = [
        Deviation(f"dataset.limit.{split}", f"{counts[split]:,} rows", f"all {full[split]:,}")
        for split in ("train", "valid", "test")
        if split in counts and split in full and counts[split] != full[split]
    ]
    for stage, facts in results.get("facts", {}).items():
        if stage.startswith("tune_") and "train" in full and facts.get("rows", full["train"]) < full["train"]:
            found.append(Deviation(f"rows of {stage}", f"{facts['rows']:,}", f"all {full['train']:,}"))
    return found
