"""Results of runs as one table in long form: a row per number, with what belongs beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from collm.runs.records import MetricRecord, RunResults

SCHEMA: Mapping[str, Any] = {
    "run": pl.String,
    "method": pl.String,
    "seed": pl.Int64,
    "floor": pl.Boolean,
    "split": pl.String,
    "slice": pl.String,
    "candidates": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n": pl.Int64,
    "skipped": pl.Int64,
    "reason": pl.String,
    "data": pl.String,
    "notes": pl.List(pl.String),
    "folder": pl.String,
}


def results_frame(runs: Iterable[tuple[Path, RunResults]]) -> pl.DataFrame:
    """Returns the numbers of finished runs and of their floors, in the order of the runs.

    Args:
        runs: Run folder and content of its `results.json`.

    Returns:
        The columns of `SCHEMA`; `collm.load_results` says what they mean.
    """
    rows = [
        (folder.name, method, of.seed, floor, *place, *_numbers(record), _data(of), of.notes, str(folder))
        for folder, of in runs
        for method, floor, place, record in _records(of)
    ]
    return pl.DataFrame(rows, schema=dict(SCHEMA), orient="row")


_Place = tuple[str, str, str, str]


def _records(of: RunResults) -> Iterator[tuple[str, bool, _Place, MetricRecord]]:
    """Yields method, whether it is a floor, (split, slice, candidates, metric), record."""
    for split, slices in of.metrics.items():
        yield from ((of.run, False, (split, part, "", name), each) for part, name, each in _cells(slices))
        yield from _floors(of.floors.get(split, {}), split, "")
    for split, by_candidates in of.ranking.items():
        for candidates, slices in by_candidates.items():
            yield from ((of.run, False, (split, part, candidates, name), each) for part, name, each in _cells(slices))
            yield from _floors(of.ranking_floors.get(split, {}).get(candidates, {}), split, candidates)


def _cells(slices: Mapping[str, Mapping[str, MetricRecord]]) -> Iterator[tuple[str, str, MetricRecord]]:
    return ((part, name, each) for part, metrics in slices.items() for name, each in metrics.items())


def _floors(
    slices: Mapping[str, Mapping[str, Mapping[str, MetricRecord]]], split: str, candidates: str
) -> Iterator[tuple[str, bool, _Place, MetricRecord]]:
    for part, floors in slices.items():
        for floor, metrics in floors.items():
            yield from ((floor, True, (split, part, candidates, name), each) for name, each in metrics.items())


def _numbers(record: MetricRecord) -> tuple[float | None, float | None, float | None, int, int, str | None]:
    return record.value, record.low, record.high, record.n, sum(record.skipped.values()), record.reason


def _data(of: RunResults) -> str | None:
    return of.stages.get("prepare_data")
