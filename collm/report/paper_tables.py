"""The tables that set a report beside the paper: its numbers, and where the methods differ from it."""

from __future__ import annotations

from collm.report.deviations import Deviation, has_biases
from collm.report.grid import Cell, Grid, Text, metric_title
from collm.report.records import Block, Line

WITH_BIASES = "‡"


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
        Text(f"{cell.value:.4f}", link=str(line.method.runs[0].path)),
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
