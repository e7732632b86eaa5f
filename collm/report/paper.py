"""The paper beside a report: its numbers, and the tables that show them and where the methods differ."""

from __future__ import annotations

import functools
import importlib.resources
import re
from collections.abc import Mapping
from typing import Any

import yaml

from collm.report.deviations import Deviation, has_biases
from collm.report.grid import Cell, Grid, Text, metric_title
from collm.report.records import Block, Line

METRICS = ("auc", "uauc", "ndcg")
SPLITS = ("train", "valid", "test")
# Tables that give metrics by method, in the order in which a method is looked for.
TABLES = ("table2", "table4", "table5", "table7")
# The paper prints 727,468 training rows; the notebook that made the data has 727,463, which add up with its total.
COUNTED = {"amazon-book": {"train": 727_463}}
WITH_BIASES = "‡"


@functools.cache
def paper_numbers() -> Mapping[str, Any]:
    """Returns the content of `paper_numbers.yaml`."""
    text = importlib.resources.files("collm.report").joinpath("paper_numbers.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def paper_dataset(full_counts: Mapping[str, int]) -> str | None:
    """Returns the paper's name of a dataset whose splits have exactly the paper's numbers of rows, else None.

    Where the published code counts other rows than the paper prints, both are the paper's.

    Args:
        full_counts: Rows per split before any limit.
    """
    for name, counts in paper_numbers()["table1"].items():
        counted = {**counts, **COUNTED.get(name, {})}
        if any(all(full_counts.get(split) == each[split] for split in SPLITS) for each in (counts, counted)):
            return str(name)
    return None


def paper_values(method: str, dataset: str, *, title: str = "") -> dict[str, float]:
    """Returns what the paper states for a method on all test rows.

    Args:
        method: Name of the run, e.g. `collm-mf`.
        dataset: The paper's name of the dataset, e.g. `ml-1m`.
        title: Name of the suite; `table5` makes that table the first to be asked.

    Returns:
        Metric -> value; empty where the paper has no such row.
    """
    named = re.match(r"table\d", title)
    tables = [*([named.group()] if named else []), *TABLES]
    for table in tables:
        values = paper_numbers().get(table, {}).get(dataset, {}).get(method)
        if isinstance(values, list):
            return dict(zip(METRICS, values, strict=False))
        single = paper_numbers().get(f"{table}_auc", {}).get(dataset, {}).get(method)
        if single is not None:
            return {"auc": float(single)}
    return {}


def paper_table(block: Block) -> Grid:
    """Returns the paper's numbers beside those measured on the same rows."""
    rows = []
    for line in block.lines:
        for metric, paper in line.paper.items():
            cell = line.cells.get("all", {}).get(metric)
            if cell is not None and cell.value is not None:
                rows.append(_paper_row(line, metric, paper, cell))
    biased = [line.method.name for line in block.lines if line.paper and has_biases(list(line.departures))]
    header = ("method", "metric", "measured", "paper", "difference", "in half-intervals", "made with")
    title = f"Beside the paper ({block.paper_dataset})"
    caption = (
        "The paper used Vicuna-7B (Table 7: Qwen2-1.5B) and one seed. A difference of more than 1 half-interval lies "
        "outside the 95% interval of the measured value."
    )
    if biased:
        caption += (
            f" {WITH_BIASES}: {', '.join(biased)} have user, item and global biases here, which the paper's have not: "
            "other models, near the floor bias-logistic."
        )
    return Grid("paper", title, header, tuple(rows), (False,) * len(rows), frozenset({0, 1, 6}), caption=caption)


def _paper_row(line: Line, metric: str, paper: float, cell: Cell) -> tuple[Text, ...]:
    assert cell.value is not None
    gap = cell.value - paper
    half = (cell.high - cell.low) / 2 if cell.low is not None and cell.high is not None else 0.0
    units = f"{gap / half:+.1f}" if half > 0 else "-"
    mark = WITH_BIASES if has_biases(list(line.departures)) else ""
    return (
        Text(line.method.name + mark),
        Text(metric_title(metric)),
        Text(f"{cell.value:.4f}", link=str(line.method.runs[0].linked)),
        Text(f"{paper:.4f}"),
        Text(f"{gap:+.4f}"),
        Text(units),
        Text(line.fidelity),
    )


def departures_table(block: Block) -> Grid:
    """Returns where the methods that have the paper's numbers beside theirs differ from it, equal ones in one row."""
    methods: dict[Deviation, list[str]] = {}
    for line in block.methods:
        for each in line.departures if line.paper else ():
            methods.setdefault(each, []).append(line.method.name)
    compared = [line.method.name for line in block.methods if line.paper]
    rows = tuple(
        (
            Text(each.field),
            Text(each.value),
            Text(each.paper),
            Text("all" if len(names) == len(compared) > 1 else ", ".join(names)),
        )
        for each, names in methods.items()
    )
    header = ("setting", "here", "the paper", "methods")
    caption = "Settings that the paper does not state (steps, patience, warm-up) are not listed."
    columns = frozenset(range(4))
    return Grid("departures", "Departures from the paper", header, rows, (False,) * len(rows), columns, caption=caption)
