"""What each method of a report cost, beside the text-only method: seconds of training and scoring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from collm.report.collect import ReportRun
from collm.report.grid import Grid, Text
from collm.report.records import Block, Summary
from collm.runs.records import TRAINING

# Which method the ratios are relative to: the first of these that the report has.
BASELINES = ("tallrec", "text-only")


@dataclass(frozen=True)
class Cost:
    """Cost of one method, mean over its seeds.

    Attributes:
        method: Its name.
        training_seconds: Fitting the encoder and all tuning steps, seconds.
        scoring_seconds: Scoring all evaluated splits, seconds.
        seconds_per_row: Scoring seconds per scored row.
        training_ratio: Relative to the text-only method of the same report; None without one.
        scoring_ratio: The same for scoring.
        machine: Processor or device that it ran on.
    """

    method: str
    training_seconds: float
    scoring_seconds: float
    seconds_per_row: float
    training_ratio: float | None
    scoring_ratio: float | None
    machine: str


def costs(summary: Summary) -> list[Cost]:
    """Returns the cost of every method that has recorded times; ratios are between methods of the same rows."""
    return [cost for block in summary.blocks for cost in _block_costs(block)]


def _block_costs(block: Block) -> list[Cost]:
    found: dict[str, tuple[float, float, int, str]] = {}
    for line in block.methods:
        runs = [run for run in line.method.runs if run.results.timing]
        if runs:
            training = sum(sum(run.results.seconds(*TRAINING).values()) for run in runs) / len(runs)
            scoring = sum(sum(run.results.seconds("evaluate").values()) for run in runs) / len(runs)
            found[line.method.name] = (training, scoring, runs[0].scores.height, _machine(runs[0]))
    base = next((found[name] for name in BASELINES if name in found), None)
    return [
        Cost(
            method=block.titled(name),
            training_seconds=training,
            scoring_seconds=scoring,
            seconds_per_row=scoring / rows if rows else 0.0,
            training_ratio=training / base[0] if base and base[0] else None,
            scoring_ratio=scoring / base[1] if base and base[1] else None,
            machine=machine,
        )
        for name, (training, scoring, rows, machine) in found.items()
    ]


def _machine(run: ReportRun) -> str:
    devices = run.environment.get("torch", {}).get("devices") or []
    if devices:
        first = devices[0]
        return str(first.get("name", first)) if isinstance(first, Mapping) else str(first)
    return f"{run.environment.get('processor', 'processor')}, {run.environment.get('cores', '?')} cores"


def costs_table(summary: Summary) -> Grid:
    """Returns the table of costs."""
    rows = tuple(_cost_row(each) for each in costs(summary))
    header = ("method", "training s", "scoring s", "scoring ms/row", "training x", "scoring x", "machine")
    caption = (
        "Seconds of the work itself, wherever it was reused; mean over seeds. x: relative to text-only (or TALLRec) "
        "in the same report (the paper's Table 6)."
    )
    if any("update" in run.results.facts for run in summary.runs):
        caption += " Training of an update: its own, without that of its parent."
    if any(window.update_seconds for run in summary.runs for window in run.results.windows):
        caption += " Updates before windows are not counted here but in the tables by window."
    return Grid("cost", "Time", header, rows, (False,) * len(rows), caption=caption)


def _cost_row(cost: Cost) -> tuple[Text, ...]:
    def ratio(value: float | None) -> str:
        return "" if value is None else f"{value:.2f}"

    return (
        Text(cost.method),
        Text(f"{cost.training_seconds:.1f}"),
        Text(f"{cost.scoring_seconds:.1f}"),
        Text(f"{1000 * cost.seconds_per_row:.2f}"),
        Text(ratio(cost.training_ratio)),
        Text(ratio(cost.scoring_ratio)),
        Text(cost.machine),
    )
