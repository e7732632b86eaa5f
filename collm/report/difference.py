"""Two runs side by side: which settings differ, and which metrics, with paired intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from collm.errors import RunError
from collm.metrics.uncertainty import widest_gap
from collm.registry import Registry
from collm.report.collect import ReportRun, read_run
from collm.report.compare import Draws, compare_all
from collm.report.grid import metric_title
from collm.report.methods import Method, measured_cells
from collm.report.rankings import ranked_lists
from collm.rescore import Measure, same_rows
from collm.spec.metric_entries import chosen_entries, entry_config
from collm.stages.evaluate import build_metrics

ABSENT = "-"
ONE_SEED = "one run each: intervals cover the choice of users and not what another seed would change; no p-value"


def run_difference(first: Path, second: Path, registry: Registry) -> dict[str, Any]:
    """Compares two finished runs.

    Args:
        first: A run folder.
        second: Another one.
        registry: Where metrics come from.

    Returns:
        `{"schema": 1, "first", "second", "settings": {path: [first, second]}, "stages": [name], "metrics": {split:
        {metric: record}}, "rankings": {split: {candidates: {metric: record}}}, "note"}`; a record has `first`,
        `second`, `difference`, `low`, `high` (95%, over users). `stages` are those that both have and that differ.

    Raises:
        RunError: If a run is not finished, the two scored no split in common, or not the same rows of one.
    """
    runs = (read_run(first), read_run(second))
    splits, left_out = _shared_splits(runs)
    same_rows({str(run.path): run.scores.filter(pl.col("split").is_in(splits)) for run in runs})
    settings = _differing(dict(_leaves(runs[0].spec)), dict(_leaves(runs[1].spec)))
    one, other = (run.results.stages for run in runs)
    notes = [ONE_SEED, *(f"{split}: not compared, one run alone scored it" for split in left_out)]
    return {
        "schema": 1,
        "first": str(first),
        "second": str(second),
        "settings": settings,
        "stages": [name for name in one if name in other and one[name] != other[name]],
        "metrics": {split: _metrics(runs, split, registry, notes) for split in splits},
        "rankings": _rankings(runs, registry, notes),
        "note": "; ".join(dict.fromkeys(notes)),
    }


def difference_table(found: Mapping[str, Any]) -> list[RenderableType]:
    """Returns what `run_difference` found as tables for a terminal."""
    settings = Table("setting", "first", "second", box=box.SIMPLE_HEAD, pad_edge=False)
    for path, (one, other) in found["settings"].items():
        settings.add_row(Text(path), Text(str(one)), Text(str(other)))
    metrics = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("split", "metric", "first", "second", "second - first"):
        metrics.add_column(name, justify="left" if name in ("split", "metric") else "right")
    groups = dict(found["metrics"])
    for split, by_candidates in found["rankings"].items():
        groups |= {f"{split}, ranking {name}": records for name, records in by_candidates.items()}
    for split, records in groups.items():
        for name, record in records.items():
            gap = f"{record['difference']:+.4f} [{record['low']:+.4f}, {record['high']:+.4f}]"
            values = (f"{record['first']:.4f}", f"{record['second']:.4f}")
            metrics.add_row(split, Text(metric_title(name)), *values, Text(gap))
    head = [Text(f"first:  {found['first']}"), Text(f"second: {found['second']}")]
    return [*head, settings if found["settings"] else Text(_same_settings(found)), metrics, Text(found["note"])]


def _same_settings(found: Mapping[str, Any]) -> str:
    if not found["stages"]:
        return "the same settings"
    return (
        f"the same settings, but other stages: {', '.join(found['stages'])}; a file that they read has other content, "
        "or the code that computes them another version"
    )


def _shared_splits(runs: tuple[ReportRun, ReportRun]) -> tuple[list[str], list[str]]:
    """Returns the splits that both runs scored, and those of one of them.

    Raises:
        RunError: If they have none in common.
    """
    first, second = (list(run.results.metrics) for run in runs)
    if shared := [split for split in first if split in second]:
        return shared, [split for split in dict.fromkeys([*first, *second]) if split not in shared]
    raise RunError(
        f"'{runs[0].path}' scored {', '.join(first)} and '{runs[1].path}' scored {', '.join(second)}: no split is in "
        "both; add one to `evaluate.splits` and run again"
    )


def _metrics(
    runs: tuple[ReportRun, ReportRun], split: str, registry: Registry, notes: list[str]
) -> dict[str, dict[str, float]]:
    """Compares the metrics that either run has; adds to the notes what is left out."""
    measured = [run.results.metrics.get(split, {}) for run in runs]
    labels = dict.fromkeys(label for slices in measured for records in slices.values() for label in records)
    rules = next((run.spec["slices"] for run in runs if "slices" in run.spec), {"warm": "at-least-3", "cold": "rest"})
    written = [entry for run in runs for entry in run.spec.get("evaluate", {}).get("metrics", ())]
    metrics = build_metrics(chosen_entries(labels, written, registry), registry)
    slices = tuple(dict.fromkeys(name for each in measured for name in each))
    of_split = [(run, run.scores.filter(run.scores["split"] == split)) for run in runs]
    return _compared(of_split, Measure(rules["warm"], rules["cold"], slices, metrics), split, notes)


def _rankings(runs: tuple[ReportRun, ReportRun], registry: Registry, notes: list[str]) -> dict[str, dict[str, Any]]:
    """Compares what both runs ranked, the same positives among as many candidates; adds what is left out."""
    evaluate = [run.spec.get("evaluate") or {} for run in runs]
    if not all(each.get("ranking") for each in evaluate):
        if any(each.get("ranking") for each in evaluate):
            notes.append("rankings are not compared, because one of the runs ranked nothing")
        return {}
    rules = runs[0].spec["slices"]
    slices = tuple(dict.fromkeys(name for each in evaluate for name in each["slices"]))
    entries = [entry_config(each, registry) for part in evaluate for each in part["ranking"]["metrics"]]
    metrics = build_metrics(entries, registry)
    measure = Measure(rules["warm"], rules["cold"], slices, {}, list_metrics=metrics)
    found: dict[str, dict[str, Any]] = {}
    for split in dict.fromkeys(split for run in runs for split in run.results.ranking_facts):
        for lists in ranked_lists(runs, split, measure):
            own = [method for method in lists.rows.methods if not method.floor]
            what = f"{split}, ranking {lists.protocol}"
            if sum(len(method.runs) for method in own) < len(runs):
                notes.append(f"{what}: not compared, the runs ranked other lists")
                continue
            pairs = [(run, frame) for method in own for run, frame in zip(method.runs, method.frames, strict=True)]
            found.setdefault(split, {})[lists.protocol] = _compared(pairs, lists.measure, what, notes)
    return found


def _shown_slice(frame: pl.DataFrame, measure: Measure) -> str:
    """Returns the slice that is compared: all rows where a run measures them, else the first that has rows."""
    if "all" in measure.slices:
        return "all"
    rows = measure.sliced(frame)
    return next((name for name in measure.slices if len(rows[name].label)), measure.slices[0])


def _compared(
    pair: Sequence[tuple[ReportRun, pl.DataFrame]], measure: Measure, what: str, notes: list[str]
) -> dict[str, dict[str, float]]:
    """Returns metric -> record of the second run beside the first, each with its table; adds what is left out.

    Args:
        pair: The runs.
        measure: Slices and metrics; one slice is compared.
        what: What the notes call the tables.
        notes: Sentences are added to it.
    """
    slice_name = _shown_slice(pair[0][1], measure)
    if slice_name != "all":
        notes.append(f"{what}: the {slice_name} slice alone, because no run measured all rows")
    measure = replace(measure, slices=(slice_name,))
    draws: dict[str, dict[str, Draws]] = {}
    # The second comes first, so that a positive difference says that it is the higher one.
    for name, (run, frame) in zip(("second", "first"), reversed(pair), strict=True):
        method = Method(name, False, (run.seed,), (run,), (frame,))
        for metric, drawn in measured_cells(method, measure)[1][slice_name].items():
            draws.setdefault(metric, {})[name] = drawn
    found: dict[str, dict[str, float]] = {}
    for metric, both in draws.items():
        for each in compare_all(both, metric, widest=widest_gap(measure.metrics[metric])):
            values = {name: float(drawn.values[0]) for name, drawn in both.items()}
            interval = {"difference": each.value, "low": each.low, "high": each.high}
            found[metric] = {"first": values["first"], "second": values["second"], **interval}
    if lacking := [metric_title(name) for name in measure.metrics if name not in found]:
        notes.append(f"{what}: {', '.join(lacking)} not compared, because a value or its interval is not defined")
    return found


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, list[Any]]:
    paths = [*first, *(path for path in second if path not in first)]
    return {
        path: [first.get(path, ABSENT), second.get(path, ABSENT)]
        for path in paths
        if path != "name" and first.get(path, ABSENT) != second.get(path, ABSENT)
    }


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, each in value.items():
            yield from _leaves(each, f"{path}.{key}" if path else str(key))
    else:
        yield path, value
