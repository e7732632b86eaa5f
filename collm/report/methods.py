"""Runs -> methods: seeds together, floors beside them, every number with its interval and its range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from collm.contracts.metric import Metric
from collm.metrics.uncertainty import resampled_values
from collm.report.collect import ReportRun
from collm.report.compare import Draws, mean_over_seeds
from collm.rescore import Measure, scored_rows, slice_columns
from collm.stages.evaluate import RESAMPLING_SEED


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    Attributes:
        value: Mean over seeds; None where the metric is not defined.
        low: Lower end of the 95% interval, users being drawn.
        high: Upper end.
        smallest: Smallest value over seeds.
        largest: Largest value over seeds.
        n: Rows or users that it averages over.
        skipped: Reason -> rows or users left out.
        reason: Why there is no value.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    smallest: float | None = None
    largest: float | None = None
    n: int = 0
    skipped: Mapping[str, int] | None = None
    reason: str = ""


@dataclass(frozen=True)
class Method:
    """One line of a table.

    Attributes:
        name: Its name.
        floor: Whether it is a floor.
        seeds: Seeds of its runs; empty for floors.
        runs: Its runs.
        frames: Scores of the split that is shown, one frame per seed.
    """

    name: str
    floor: bool
    seeds: tuple[int, ...]
    runs: tuple[ReportRun, ...]
    frames: tuple[pl.DataFrame, ...]


def group_methods(runs: Sequence[ReportRun], split: str) -> tuple[list[Method], list[str]]:
    """Puts runs that differ in their seed alone together, and floors before them.

    Args:
        runs: Finished runs.
        split: The split that is shown.

    Returns:
        Methods, floors first, and sentences about what could not be shown.
    """
    by_method: dict[str, list[ReportRun]] = {}
    notes: list[str] = []
    for run in runs:
        if split not in run.results["metrics"]:
            notes.append(f"{run.path.name} has no {split} scores and is left out")
            continue
        name = run.method
        if any(other.seed == run.seed for other in by_method.get(name, ())):
            name = run.path.name
        by_method.setdefault(name, []).append(run)
    methods = [
        Method(
            name,
            False,
            tuple(run.seed for run in members),
            tuple(members),
            tuple(run.scores.filter(pl.col("split") == split) for run in members),
        )
        for name, members in by_method.items()
    ]
    return [*_floors(methods, split), *methods], notes


def measured_cells(method: Method, measure: Measure) -> tuple[dict[str, dict[str, Cell]], dict[str, dict[str, Draws]]]:
    """Computes every metric of a method on every slice.

    Args:
        method: The method.
        measure: Slice rules, metrics and resamples.

    Returns:
        Slice -> metric -> cell, and slice -> metric -> draws (only where the metric is defined).
    """
    cells: dict[str, dict[str, Cell]] = {}
    draws: dict[str, dict[str, Draws]] = {}
    for part in measure.slices:
        cells[part], draws[part] = {}, {}
        for name, metric in measure.metrics.items():
            cell, drawn = _measure(method, metric, part, measure)
            cells[part][name] = cell
            if drawn is not None:
                draws[part][name] = drawn
    return cells, draws


def _measure(method: Method, metric: Metric, part: str, measure: Measure) -> tuple[Cell, Draws | None]:
    rows = [scored_rows(frame.filter(pl.Series(slice_columns(frame, measure)[part]))) for frame in method.frames]
    computed = [metric.compute(each) for each in rows]
    first = computed[0]
    skipped = dict(first.skipped)
    values = [each.value for each in computed if each.value is not None]
    if len(values) < len(computed):
        reason = next(each.reason for each in computed if each.value is None)
        return Cell(None, n=first.n, skipped=skipped, reason=reason), None
    resampled = [resampled_values(metric, each, n_resamples=measure.resamples, seed=RESAMPLING_SEED) for each in rows]
    draws = Draws(np.asarray(values), np.stack(resampled), method.seeds)
    ends = mean_over_seeds(draws)
    cell = Cell(
        value=float(np.mean(values)),
        low=ends[1] if ends else None,
        high=ends[2] if ends else None,
        smallest=float(min(values)),
        largest=float(max(values)),
        n=first.n,
        skipped=skipped,
    )
    return cell, draws if ends else None


def _floors(methods: Sequence[Method], split: str) -> list[Method]:
    """Floors of the same rows are the same for every run, so the first run's are shown."""
    for method in methods:
        frame = method.runs[0].floor_scores
        if frame is None:
            continue
        scores, part = method.frames[0], frame.filter(pl.col("split") == split)
        return [
            Method(
                name,
                True,
                (),
                (),
                (scores.with_columns(part[name].cast(pl.Float64).alias("score")),),
            )
            for name in part.columns
            if name not in ("split", "row")
        ]
    return []


def fidelity(run: ReportRun) -> str:
    """Says what a run's numbers were made with: language model, rows it was tuned on, optimiser steps.

    Numbers of different fidelity do not answer the same question; tables state it in a column.
    """
    facts: Mapping[str, Any] = run.results.get("facts", {})
    if "ensemble" in facts:
        return "mean of scores"
    backbone = run.spec.get("backbone", {}).get("name")
    if backbone is None:
        return "no language model"
    steps = [facts[key] for key in sorted(facts) if key.startswith("tune_")]
    if not steps:
        return f"{backbone}, not tuned"
    rows = steps[-1]["rows"]
    return f"{backbone}, {rows:,} rows, {' + '.join(str(step['optimiser_steps']) for step in steps)} steps"
