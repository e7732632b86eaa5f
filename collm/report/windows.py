"""Windows of prequential evaluation in a report: metrics per window, and what updating changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from collm.metrics.score_notes import FEW_USERS
from collm.metrics.uncertainty import widest_gap
from collm.report.compare import Difference, compare_all
from collm.report.grid import Cell, Grid, Text, cell_text, metric_title
from collm.report.methods import Method, RowSet, measured_cells
from collm.rescore import Measure
from collm.runs.records import WindowRecord
from collm.stages.score_tables import probabilities

FROZEN = "frozen"
COMPARED_METRICS = ("auc", "uauc")
SIGNIFICANT = 0.05
Cut = tuple[tuple[int, int, int], ...]  # first and last second and rows of each window


@dataclass(frozen=True)
class WindowLine:
    """One method in one window.

    Attributes:
        method: Name of the method.
        window: The window; None = all of them.
        seconds: Seconds of the update before it, mean over seeds; of all updates in the line of all windows.
        cells: Metric -> cell.
        gaps: Metric -> difference to the frozen model; empty where nothing is updated.
        cut: Which of the ways in which the report's runs cut the rows into windows, from 0.
    """

    method: str
    window: WindowRecord | None
    seconds: float
    cells: dict[str, Cell]
    gaps: dict[str, Difference]
    cut: int = 0


def window_lines(rows: RowSet, measure: Measure) -> tuple[WindowLine, ...]:
    """Measures the methods of prequential evaluation window by window.

    Args:
        rows: Methods that scored the same rows.
        measure: Metrics and resamples; all rows of a window are one slice.
    """
    metrics = {name: measure.metrics[name] for name in COMPARED_METRICS if name in measure.metrics}
    own = replace(measure, slices=("all",), metrics=metrics or dict([next(iter(measure.metrics.items()))]))
    cuts: dict[Cut, int] = {}
    found: list[WindowLine] = []
    for method in rows.methods:
        if not method.runs or not all(run.results.windows for run in method.runs):
            continue
        for cut, part in _by_cut(method).items():
            number = cuts.setdefault(cut, len(cuts))
            found += [replace(line, cut=number) for line in _lines(part, own)]
    return tuple(found)


def of_each_cut(lines: Sequence[WindowLine]) -> list[tuple[WindowLine, ...]]:
    """Returns the lines of the runs that cut the rows into the same windows, together."""
    return [tuple(line for line in lines if line.cut == cut) for cut in dict.fromkeys(line.cut for line in lines)]


def _by_cut(method: Method) -> Mapping[Cut, Method]:
    """Returns the method by the windows of its runs; one entry, but where seeds were run with other windows."""
    parts: dict[Cut, list[int]] = {}
    for place, run in enumerate(method.runs):
        cut = tuple((window.first, window.last, window.rows) for window in run.results.windows)
        parts.setdefault(cut, []).append(place)
    return {cut: _some_seeds(method, places) for cut, places in parts.items()}


def _some_seeds(method: Method, places: Sequence[int]) -> Method:
    return replace(
        method,
        seeds=tuple(method.seeds[n] for n in places),
        runs=tuple(method.runs[n] for n in places),
        frames=tuple(method.frames[n] for n in places),
    )


def _lines(method: Method, measure: Measure) -> Iterator[WindowLine]:
    recorded = [run.results.windows for run in method.runs]
    for place, window in enumerate(recorded[0]):
        inside = [frame.filter(pl.col("window") == window.number) for frame in method.frames]
        seconds = float(np.mean([windows[place].update_seconds for windows in recorded]))
        yield _line(replace(method, frames=tuple(inside)), measure, window, seconds)
    total = float(np.mean([sum(window.update_seconds for window in windows) for windows in recorded]))
    yield _line(method, measure, None, total)


def _line(method: Method, measure: Measure, window: WindowRecord | None, seconds: float) -> WindowLine:
    cells, draws = measured_cells(method, measure)
    gaps: dict[str, Difference] = {}
    before = replace(method, frames=tuple(map(_as_frozen, method.frames)))
    if any(not one["logit"].equals(two["logit"]) for one, two in zip(method.frames, before.frames, strict=True)):
        _, frozen = measured_cells(before, measure)
        for name, metric in measure.metrics.items():
            both = {method.name: draws["all"].get(name), FROZEN: frozen["all"].get(name)}
            found = {key: each for key, each in both.items() if each is not None}
            gaps.update((name, each) for each in compare_all(found, name, widest=widest_gap(metric)))
    return WindowLine(method.name, window, seconds, cells["all"], gaps)


def _as_frozen(frame: pl.DataFrame) -> pl.DataFrame:
    """Returns scores with those of the model that training made in place of the updated ones."""
    logits = frame["frozen_logit"].to_numpy()
    return frame.with_columns(logit=pl.Series(logits.astype(np.float32)), score=pl.Series(probabilities(logits)))


def window_grids(lines: Sequence[WindowLine]) -> list[Grid]:
    """Returns the windows, and the methods in each, as tables; none without windows.

    Runs that cut the rows into other windows have tables of their own.
    """
    cuts = of_each_cut(lines)
    found = []
    for number, part in enumerate(cuts):
        of = f" of {', '.join(dict.fromkeys(line.method for line in part))}" if len(cuts) > 1 else ""
        for grid in _grids(part):
            key = grid.key if number == 0 else grid.key.replace("windows", f"windows-{number + 1}", 1)
            found.append(replace(grid, key=key, title=f"{grid.title}{of}"))
    return found


def _grids(lines: Sequence[WindowLine]) -> list[Grid]:
    windows = {line.window.number: line.window for line in lines if line.window is not None}
    about = tuple(
        (
            *_cells(number, f"{_day(window.first)} to {_day(window.last)}"),
            *_cells(f"{window.rows:,}", f"{window.users:,}", f"{window.new_users:,}", f"{window.new_items:,}"),
        )
        for number, window in windows.items()
    )
    header = ("window", "UTC days", "rows", "users", "new users", "new items")
    caption = "New: users and items without a row in training, validation and the windows before."
    found = [Grid("windows", "Windows", header, about, (False,) * len(about), frozenset({0, 1}), caption=caption)]
    return [*found, *(_metric_grid(metric, lines) for metric in lines[0].cells)]


def _metric_grid(metric: str, lines: Sequence[WindowLine]) -> Grid:
    rows = []
    for line in sorted(lines, key=lambda line: (line.window is None, line.window.number if line.window else 0)):
        gap = line.gaps.get(metric)
        change = f"{gap.value:+.4f} [{gap.low:+.3f}, {gap.high:+.3f}]" if gap else "-"
        number = "all" if line.window is None else str(line.window.number)
        # Not a number where one seed was run.
        found = gap is not None and gap.p < SIGNIFICANT
        row = (*_cells(number, line.method, cell_text(line.cells[metric])), Text(change, strong=found))
        rows.append((*row, Text(f"{line.seconds:.1f}")))
    few = sorted({line.window.number for line in lines if line.window and line.window.users < FEW_USERS})
    title = metric_title(metric)
    header = ("window", "method", title, "- frozen", "update s")
    caption = (
        "Each row is scored once, by the model as it was before its window. - frozen: minus the same method without "
        "updates, over the same users; bold: p under 0.05 over users and two seeds or more, uncorrected for the number "
        "of windows. update s: seconds of the update before the window, mean over seeds."
    )
    if few:
        numbers = ", ".join(map(str, few))
        caption += f" Windows {numbers} have under {FEW_USERS} users: their intervals are too narrow."
    shown = tuple(rows)
    return Grid(
        f"windows-{metric}",
        f"{title} by window",
        header,
        shown,
        (False,) * len(shown),
        frozenset({0, 1}),
        caption=caption,
    )


def _cells(*texts: Any) -> tuple[Text, ...]:
    return tuple(Text(str(each)) for each in texts)


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
