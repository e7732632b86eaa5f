"""Runs -> sets of rows -> methods: seeds together, floors first, every number with its interval and its range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from collm.contracts.metric import Metric, ScoredRows
from collm.metrics.uncertainty import count_units, user_draws, value_interval
from collm.report.collect import ReportRun
from collm.report.compare import Draws, mean_over_seeds
from collm.report.grid import Cell
from collm.rescore import Measure
from collm.stages.evaluate import RESAMPLING_SEED

# Rows are the same where these are; the counts decide which of them are warm and cold.
ROW_KEYS = ("split", "row", "user", "item", "label", "user_train_rows", "item_train_rows")
FLOOR_KEYS = ("split", "row")
# What rows without a language model of their own were made with.
ENCODER, MEAN = "no language model", "mean of scores"
FLOOR_TOLERANCE = 1e-4  # floors of one data on two machines differ by rounding


@dataclass(frozen=True)
class Method:
    """One line of a table.

    Attributes:
        name: Its name.
        floor: Whether it is a floor.
        seeds: Seeds of its runs; empty for floors.
        runs: Its runs.
        frames: Scores of the split that is shown, one frame per seed; all of the same rows.
    """

    name: str
    floor: bool
    seeds: tuple[int, ...]
    runs: tuple[ReportRun, ...]
    frames: tuple[pl.DataFrame, ...]

    @property
    def is_replicated(self) -> bool:
        """Whether several seeds were run, or no seed can change it (a floor)."""
        return self.floor or len(self.seeds) > 1

    @property
    def is_deterministic(self) -> bool:
        """Whether all of several seeds gave the same scores."""
        return len(self.frames) > 1 and all(each["score"].equals(self.frames[0]["score"]) for each in self.frames)


@dataclass(frozen=True)
class RowSet:
    """Methods that scored the same rows, and the floors fitted on the same training rows: what may be compared.

    Attributes:
        methods: Floors first, then methods in the order of their runs.
        n_rows: Scored rows of the split.
        n_users: Users of them.
    """

    methods: tuple[Method, ...]
    n_rows: int
    n_users: int

    @property
    def runs(self) -> tuple[ReportRun, ...]:
        """Returns the runs of all methods."""
        return tuple(run for method in self.methods for run in method.runs)


def group_rows(runs: Sequence[ReportRun], split: str) -> tuple[list[RowSet], list[str]]:
    """Puts runs that scored the same rows together, and in each set those that differ in their seed alone.

    Args:
        runs: Finished runs.
        split: The split that is shown.

    Returns:
        The sets in the order of their first run, and sentences about what could not be shown.
    """
    notes: list[str] = []
    sets: list[list[_Scored]] = []
    for run in runs:
        if split not in run.results.metrics:
            notes.append(f"{run.path.name} has no {split} scores and is left out")
            continue
        scored = _Scored.of(run, split)
        alike = next((members for members in sets if scored.belongs_to(members)), None)
        if alike is None:
            sets.append([scored])
        else:
            alike.append(scored)
    return [_row_set(members) for members in sets], notes


@dataclass(frozen=True)
class _Scored:
    """A run with its rows of the split that is shown."""

    run: ReportRun
    frame: pl.DataFrame
    floors: pl.DataFrame | None

    @classmethod
    def of(cls, run: ReportRun, split: str) -> _Scored:
        of_split = pl.col("split") == split
        floors = run.floor_scores
        return cls(run, run.scores.filter(of_split), None if floors is None else floors.filter(of_split))

    def belongs_to(self, members: Sequence[_Scored]) -> bool:
        if not self.frame.select(ROW_KEYS).equals(members[0].frame.select(ROW_KEYS)):
            return False
        others = next((each.floors for each in members if each.floors is not None), None)
        return self.floors is None or others is None or _agree(self.floors, others)


def _agree(first: pl.DataFrame, second: pl.DataFrame) -> bool:
    """Whether floors that both runs have gave the same scores, so were fitted on the same rows."""
    shared = [name for name in first.columns if name in second.columns and name not in FLOOR_KEYS]
    return first.height == second.height and all(
        np.allclose(first[name], second[name], rtol=0, atol=FLOOR_TOLERANCE) for name in shared
    )


def _row_set(members: Sequence[_Scored]) -> RowSet:
    frame = members[0].frame
    methods = together([(each.run, each.frame) for each in members])
    return RowSet((*_floors(members), *methods), frame.height, frame["user"].n_unique())


def together(members: Sequence[tuple[ReportRun, pl.DataFrame]]) -> list[Method]:
    """Returns the methods of some runs with their tables: runs that differ in their seed alone are one method."""
    by_method: dict[str, list[tuple[ReportRun, pl.DataFrame]]] = {}
    for run, frame in members:
        name = run.method
        if any(other.seed == run.seed for other, _ in by_method.get(name, ())):
            name = run.path.name
        by_method.setdefault(name, []).append((run, frame))
    return [
        Method(
            name,
            False,
            tuple(run.seed for run, _ in group),
            tuple(run for run, _ in group),
            tuple(frame for _, frame in group),
        )
        for name, group in by_method.items()
    ]


def _floors(members: Sequence[_Scored]) -> list[Method]:
    """Returns the floors of all runs, each once."""
    found: dict[str, Method] = {}
    for each in members:
        floors = each.floors if each.floors is not None else pl.DataFrame()
        for name in floors.columns:
            if name in FLOOR_KEYS or name in found:
                continue
            scores = each.frame.with_columns(
                floors[name].cast(pl.Float64).alias("score"), pl.lit(None, dtype=pl.Float32).alias("logit")
            )
            found[name] = Method(name, True, (), (), (scores,))
    return list(found.values())


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
    sliced = [measure.sliced(frame) for frame in method.frames]
    for slice_name in measure.slices:
        cells[slice_name], draws[slice_name] = {}, {}
        rows = [each[slice_name] for each in sliced]
        for name, metric in measure.metrics.items():
            cell, drawn = _measure(rows, metric, method.seeds, measure)
            cells[slice_name][name] = cell
            if drawn is not None:
                draws[slice_name][name] = drawn
    return cells, draws


def _measure(
    rows: Sequence[ScoredRows], metric: Metric, seeds: tuple[int, ...], measure: Measure
) -> tuple[Cell, Draws | None]:
    computed = [metric.compute(each) for each in rows]
    first = computed[0]
    skipped = dict(first.skipped)
    values = [each.value for each in computed if each.value is not None]
    if len(values) < len(computed):
        reason = next(each.reason for each in computed if each.value is None)
        return Cell(None, n=first.n, skipped=skipped, reason=reason), None
    drawn = [user_draws(metric, each, n_resamples=measure.resamples, seed=RESAMPLING_SEED) for each in rows]
    n_units = count_units(metric, rows[0], first.n)
    draws = Draws.of(values, drawn, seeds, n_units)
    estimate = mean_over_seeds(draws)
    ends = None if estimate is None else value_interval(metric, estimate, n_units)
    cell = Cell(
        value=float(np.mean(values)),
        low=ends[0] if ends else None,
        high=ends[1] if ends else None,
        smallest=float(min(values)),
        largest=float(max(values)),
        n=first.n,
        skipped=skipped,
    )
    return cell, draws if ends else None


def _model_name(backbone: Mapping[str, Any]) -> str:
    """Returns the backbone's name, and its folder's where the user named one: `hf` alone says nothing."""
    folder = Path(str(backbone["path"])).name if backbone.get("path") else ""
    return " ".join(filter(None, ["" if backbone["name"] == "hf" else str(backbone["name"]), folder]))


def fidelity(run: ReportRun) -> str:
    """Says what a run's numbers were made with: language model, rows it was tuned on, optimiser steps.

    Numbers of different fidelity do not answer the same question; tables state it in a column.
    """
    if run.results.is_ensemble:
        return MEAN
    section = run.spec.get("backbone")
    if not section:
        return ENCODER
    backbone = _model_name(section)
    steps = [facts for _, facts in run.results.tuning_steps()]
    if not steps:
        return f"{backbone}, not tuned"
    rows = list(dict.fromkeys(f"{step.rows:,}" for step in steps))
    return f"{backbone}, {' + '.join(rows)} rows, {' + '.join(str(step.optimiser_steps) for step in steps)} steps"
