"""The tables of a report as text cells, cost included; terminal, Markdown, LaTeX and HTML show the same ones."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import re
from collections.abc import Sequence

from collm.report.costs import costs_table
from collm.report.grid import Grid, Text, cell_text, metric_title, sizes
from collm.report.paper import departures_table, paper_dataset, paper_numbers, paper_table
from collm.report.records import Block, Line, Summary
from collm.report.windows import window_grids
from collm.visible import spreadsheet_cell, visible

NOT_ABOVE_FLOOR = "†"
ALIKE = 0.95
COUNTS = ("train", "valid", "test", "users", "items")
CSV_COLUMNS = (
    "method",
    "floor",
    "made_with",
    "seeds",
    "split",
    "slice",
    "metric",
    "value",
    "low",
    "high",
    "smallest",
    "largest",
    "n",
    "paper",
    "rows",
    "candidates",
)


def report_tables(summary: Summary) -> list[Grid]:
    """Returns all tables of a report in reading order; those without rows are left out."""
    grids = [grid for block in summary.blocks for grid in _block_tables(summary, block)]
    grids += [grid for each in summary.rankings for block in each.blocks for grid in _ranking_tables(each, block)]
    grids += [costs_table(summary), _data(summary), _missing(summary)]
    return [grid for grid in grids if grid.rows]


def _block_tables(summary: Summary, block: Block) -> list[Grid]:
    grids = [_results(summary, block, slice_name) for slice_name in summary.slices] + window_grids(block.windows)
    grids += [paper_table(block), *([departures_table(block)] if block.paper_dataset else []), _comparisons(block)]
    grids += [_improvements(block)]
    return _labelled(grids, block)


def _ranking_tables(summary: Summary, block: Block) -> list[Grid]:
    """Returns the tables of ranked lists."""
    grids = [_results(summary, block, slice_name) for slice_name in summary.slices]
    differences = _comparisons(block)
    grids.append(dataclasses.replace(differences, title=f"{differences.title}, {_of_lists(summary)}"))
    prefix = re.sub(r"[^a-z0-9]+", "-", f"ranking-{summary.candidates}".lower())
    return _labelled([dataclasses.replace(grid, key=f"{prefix}-{grid.key}") for grid in grids], block)


def _of_lists(summary: Summary) -> str:
    of = "all items" if summary.candidates == "all" else f"candidates: {summary.candidates}"
    return f"ranking, {of}"


def _labelled(grids: Sequence[Grid], block: Block) -> list[Grid]:
    suffix = f"-{block.label.lower()}" if block.label else ""
    return [dataclasses.replace(grid, key=grid.key + suffix, title=block.titled(grid.title)) for grid in grids]


def to_csv(summary: Summary) -> str:
    """Returns one line per method, slice and metric; numbers unrounded. `rows` is the label of the set of rows.

    `candidates` says what is ranked, of metrics of ranked lists; it is empty for labelled rows.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    every = [(part, block) for part in (summary, *summary.rankings) for block in part.blocks]
    for of, block in every:
        for line in block.lines:
            seeds = " ".join(map(str, line.method.seeds))
            for slice_name, metrics in line.cells.items():
                for metric, cell in metrics.items():
                    paper = line.paper.get(metric) if slice_name == "all" else None
                    place = (
                        line.method.name,
                        line.method.floor,
                        line.fidelity,
                        seeds,
                        of.split,
                        slice_name,
                        metric,
                    )
                    numbers = (cell.value, cell.low, cell.high, cell.smallest, cell.largest, cell.n, paper)
                    cells = [*place, *numbers, block.label, of.candidates]
                    writer.writerow([spreadsheet_cell(visible(x)) if isinstance(x, str) else x for x in cells])
    return stream.getvalue()


def _results(summary: Summary, block: Block, slice_name: str) -> Grid:
    rows, dim = [], []
    # Sets of ranked lists may have other metrics: those that need no more items than their runs kept.
    metrics = [name for name in summary.metrics if name in block.lines[-1].cells[slice_name]]
    best, is_first = _best(summary, block, slice_name, metrics), slice_name == summary.slices[0]
    for line in block.lines:
        link = str(line.method.runs[0].linked) if line.method.runs else ""
        cells = []
        for metric in metrics:
            mark = NOT_ABOVE_FLOOR if is_first and line.above_floor.get(metric) is False else ""
            is_best = best.get(metric) == line.method.name
            value, *spread = cell_text(line.cells[slice_name][metric]).split("\n")
            cells.append(Text("\n".join([value + mark, *spread]), link=link, strong=is_best))
        made = (Text("floor" if line.method.floor else _seeds(line)), Text(line.fidelity)) if is_first else ()
        rows.append((Text(line.method.name), *cells, *made))
        dim.append(line.method.floor)
    caption = (
        f"[low, high]: 95% interval over users, and over seeds from two on. {sizes(block.lines[-1].cells[slice_name])}."
    )
    if any(line.method.seeds[1:] for line in block.methods):
        caption += " (smallest-largest): over seeds."
    if any(cell.strong for row in rows for cell in row):
        caption += " Bold: the best method of the column; the differences below say whether that could be chance."
    if any(NOT_ABOVE_FLOOR in cell.text for row in rows for cell in row):
        caption += f" {NOT_ABOVE_FLOOR}: not above the best floor that sees as much."
    caption += _like_floor(block) if is_first else " Seeds and training: see the first table."
    header = ("method", *map(metric_title, metrics), *(("seeds", "made with") if is_first else ()))
    what = f"{_of_lists(summary)}, {slice_name} positives" if summary.candidates else f"{slice_name} rows"
    title = f"{summary.split}, {what}"
    text_columns = frozenset({0, *range(1 + len(metrics), len(header))})
    return Grid(f"results-{slice_name}", title, header, tuple(rows), tuple(dim), text_columns, caption=caption)


def _like_floor(block: Block) -> str:
    """Says which encoders rank nearly as user and item biases alone do."""
    alike = [
        f"{line.method.name} {line.like_bias_floor:.3f}"
        for line in block.methods
        if line.like_bias_floor is not None and line.like_bias_floor >= ALIKE
    ]
    return f" Rank correlation with the floor bias-logistic (biases alone): {', '.join(alike)}." if alike else ""


def _seeds(line: Line) -> str:
    seeds = line.method.seeds
    if len(seeds) == 1:
        return f"n=1 ({seeds[0]})"
    return f"n={len(seeds)} ({', '.join(map(str, seeds))})" + (", equal" if line.method.is_deterministic else "")


def _best(summary: Summary, block: Block, slice_name: str, metrics: Sequence[str]) -> dict[str, str]:
    """Returns metric -> the best method; none where a method has one seed, so that another seed might be better."""
    if len(block.methods) < 2 or not all(line.method.is_replicated for line in block.methods):
        return {}
    best: dict[str, str] = {}
    for metric in metrics:
        sign = 1.0 if summary.higher_is_better[metric] else -1.0
        known = {
            line.method.name: sign * value
            for line in block.methods
            if (value := line.cells[slice_name][metric].value) is not None
        }
        if len(known) > 1:
            best[metric] = max(known, key=known.__getitem__)
    return best


def _comparisons(block: Block) -> Grid:
    rows = tuple(
        (
            Text(f"{each.first} - {each.second}"),
            Text(metric_title(each.metric)),
            Text(f"{each.value:+.4f} [{each.low:+.4f}, {each.high:+.4f}]", strong=each.significant),
            Text(_number(each.p, ".3g")),
            Text(_number(each.p_holm, ".3g")),
            Text(_number(each.detectable, ".4f")),
        )
        for each in block.comparisons
    )
    header = ("methods", "metric", "difference", "p", "p (Holm)", "detectable")
    caption = (
        "The same rows; users, and seeds where there are several. Bold: p (Holm) under 0.05. Holm: corrected over all "
        "pairs of one metric. Detectable: the difference that would be found 8 times in 10 at the 5% level, "
        "uncorrected. No p where a method has one seed."
    )
    return Grid(
        "comparisons",
        "Differences between methods",
        header,
        rows,
        (False,) * len(rows),
        frozenset({0, 1}),
        caption=caption,
    )


def _improvements(block: Block) -> Grid:
    methods = [line.method.name for line in block.methods]
    baselines = [*dict.fromkeys(block.best_floors.values()), *methods]
    rows = tuple(
        (Text(method), *(Text(_percent(block.improvements.get((method, other)))) for other in baselines))
        for method in methods
        if any((method, other) in block.improvements for other in baselines)
    )
    caption = "Mean over AUC and uAUC of (method - baseline) / baseline, the paper's definition (Table 2)."
    title = "Relative improvement over"
    header = ("method", *baselines)
    return Grid("improvement", title, header, rows, (False,) * len(rows), caption=caption)


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:+.1f}%"


def _data(summary: Summary) -> Grid:
    """Rows per split, users and items of every dataset, beside the paper's Table 1 where the splits are the paper's."""
    rows: list[tuple[Text, ...]] = []
    for run in summary.runs:
        full = run.results.full_counts
        name = str((run.spec.get("dataset") or {}).get("name", ""))
        cells = (Text(name), *(Text(f"{full[key]:,}" if key in full else "") for key in COUNTS))
        if name and cells not in rows:
            rows.append(cells)
    names = [paper_dataset(run.results.full_counts) for run in summary.runs]
    for name in dict.fromkeys(each for each in names if each):
        counts = paper_numbers()["table1"][name]
        rows.append((Text(f"the paper's {name}"), *(Text(f"{counts[key]:,}") for key in COUNTS)))
    caption = "Before any limit. The paper's numbers of users and items count the padding id."
    header = ("dataset", "training rows", "validation rows", "test rows", "users", "items")
    return Grid("data", "Data", header, tuple(rows), (False,) * len(rows), caption=caption)


def _missing(summary: Summary) -> Grid:
    rows = tuple((Text(each.method), Text(str(each.seed)), Text(each.cause)) for each in summary.missing)
    return Grid("missing", "Not finished", ("run", "seed", "cause"), rows, (True,) * len(rows), frozenset({0, 1, 2}))
