"""The figures of a report as SVG text, drawn with matplotlib (extra `report`)."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from collm.errors import UsageError
from collm.report.grid import Cell, metric_title
from collm.report.records import Block, Summary
from collm.report.windows import WindowLine, of_each_cut

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BAR_METRICS = ("auc", "uauc")
CALIBRATION_BINS = 10
# Distinguishable in print and for colour-blind readers (Okabe and Ito 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#000000")
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "collm",
    "text.parse_math": False,  # a run may be called a$b
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#dddddd",
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Picture:
    """One figure.

    Attributes:
        key: Name for links.
        title: Heading.
        svg: The picture.
        caption: What it shows.
    """

    key: str
    title: str
    svg: str
    caption: str


def report_figures(summary: Summary) -> list[Picture]:
    """Draws what the runs have data for: slices, learning curves, calibration, time.

    Raises:
        UsageError: If matplotlib is not installed.
    """
    with style():
        return list(_draw(summary))


def style() -> AbstractContextManager[None]:
    """Returns a block in which matplotlib draws as reports do.

    Raises:
        UsageError: If matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise UsageError("figures need matplotlib: pip install 'collm[report]'") from error
    block: AbstractContextManager[None] = matplotlib.rc_context(STYLE)
    return block


def _draw(summary: Summary) -> Iterator[Picture]:
    for block in summary.blocks:
        suffix = f"-{block.label.lower()}" if block.label else ""
        yield Picture(
            f"slices{suffix}",
            block.titled("Metrics by slice"),
            as_svg(_slice_bars(summary, block)),
            "Bars: mean over seeds. Lines: 95% interval over users, and over seeds from two on. Dashed: the best floor "
            "of that slice. Warm and cold as in the paper's Figures 1, 3 and 4; the axis does not start at 0.",
        )
        if block.windows:
            caption = (
                "One mark per window of prequential evaluation, with the 95% interval over users (and over seeds from "
                "two on); each window is scored by the model as it was before it."
            )
            cuts = of_each_cut(block.windows)
            for number, lines in enumerate(cuts):
                of = f" of {', '.join(dict.fromkeys(line.method for line in lines))}" if len(cuts) > 1 else ""
                key = f"by-window-{number + 1}" if number else "by-window"
                yield Picture(f"{key}{suffix}", block.titled(f"Windows{of}"), as_svg(_by_window(lines)), caption)
        caption = (
            "Share of positive labels among rows of like score (ten bins of equal size). On the diagonal: calibrated."
        )
        yield Picture(f"calibration{suffix}", block.titled("Calibration"), as_svg(_calibration(block)), caption)
    if curves := _curves(summary):
        caption = "Validation AUC while training, one line per run and stage; the mark is what was kept."
        yield Picture("curves", "Learning curves", as_svg(_curve_figure(curves)), caption)
    if any(run.results.timing for run in summary.runs):
        caption = "Seconds of each stage's own work, wherever it was reused; the first seed of each method."
        yield Picture("time", "Time by stage", as_svg(_time(summary)), caption)


def as_svg(figure: Figure) -> str:
    """Returns a figure as the text of an `<svg>` element, the same for the same figure."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty figure of a size in inches."""
    from matplotlib.figure import Figure as NewFigure

    return NewFigure(figsize=(width, height))


def _slice_bars(summary: Summary, block: Block) -> Figure:
    methods = block.methods
    metrics = [name for name in BAR_METRICS if name in summary.metrics] or list(summary.metrics[:1])
    figure = new_figure(max(7.0, 1.0 + 0.35 * len(methods) * len(summary.slices)), 3.0 * len(metrics))
    for index, metric in enumerate(metrics):
        axes = figure.add_subplot(len(metrics), 1, index + 1)
        shown: list[float] = []
        width = 0.8 / len(methods)
        for number, line in enumerate(methods):
            for place, slice_name in enumerate(summary.slices):
                cell = line.cells[slice_name][metric]
                if cell.value is None:
                    continue
                shown.extend(_bar(axes, place + (number - (len(methods) - 1) / 2) * width, width, cell, number))
        shown.extend(_floor_lines(axes, summary, block, metric))
        axes.set_xticks(range(len(summary.slices)), summary.slices)
        axes.set_ylabel(metric_title(metric))
        if shown:
            margin = 0.05 * (max(shown) - min(shown)) + 0.005
            axes.set_ylim(min(shown) - margin, max(shown) + margin)
        if index == 0:
            handles = [_swatch(number) for number in range(len(methods))]
            names = [line.method.name for line in methods]
            axes.legend(handles, names, loc="lower left", bbox_to_anchor=(0, 1.02), ncols=4)
    return figure


def _by_window(given: Sequence[WindowLine]) -> Figure:
    lines = [line for line in given if line.window is not None]
    methods, metrics = list(dict.fromkeys(line.method for line in lines)), list(lines[0].cells)
    figure = new_figure(7.0, 3.0 * len(metrics))
    for index, metric in enumerate(metrics):
        axes = figure.add_subplot(len(metrics), 1, index + 1)
        for number, method in enumerate(methods):
            # Side by side, so that intervals of one window do not hide each other.
            shift = (number - (len(methods) - 1) / 2) * 0.6 / len(methods)
            colour = COLOURS[number % len(COLOURS)]
            x, y = [], []
            for line in lines:
                cell = line.cells[metric]
                if line.method != method or line.window is None or cell.value is None:
                    continue
                x.append(line.window.number + shift)
                y.append(cell.value)
                if cell.low is not None and cell.high is not None:
                    axes.plot([x[-1]] * 2, [cell.low, cell.high], color=colour, linewidth=1, alpha=0.6)
            axes.plot(x, y, "o-", color=colour, markersize=4, linewidth=1)
        axes.set_xticks(sorted({line.window.number for line in lines if line.window}))
        axes.set_ylabel(metric_title(metric))
        if index == len(metrics) - 1:
            axes.set_xlabel("window")
        if index == 0:
            handles = [_swatch(number) for number in range(len(methods))]
            axes.legend(handles, methods, loc="lower left", bbox_to_anchor=(0, 1.02), ncols=3)
    return figure


def _bar(axes: Any, x: float, width: float, cell: Cell, number: int) -> list[float]:
    assert cell.value is not None
    axes.bar(x, cell.value, width * 0.9, color=COLOURS[number % len(COLOURS)], zorder=2)
    if cell.low is None or cell.high is None:
        return [cell.value]
    axes.plot([x, x], [cell.low, cell.high], color="#333333", linewidth=1, zorder=3)
    return [cell.low, cell.high, cell.value]


def _floor_lines(axes: Any, summary: Summary, block: Block, metric: str) -> Iterator[float]:
    best = max if summary.higher_is_better[metric] else min
    for place, slice_name in enumerate(summary.slices):
        cells = (line.cells[slice_name][metric] for line in block.lines if line.method.floor)
        values = [cell.value for cell in cells if cell.value is not None]
        if values:
            axes.hlines(best(values), place - 0.45, place + 0.45, colors="#333333", linestyles="dashed", zorder=4)
            yield best(values)


def _swatch(number: int) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=COLOURS[number % len(COLOURS)])


Curve = tuple[str, list[float], list[float], float]


def _curves(summary: Summary) -> list[Curve]:
    found: list[Curve] = []
    for name, line in summary.methods:
        for run in line.method.runs:
            for stage, facts in run.results.facts.items():
                if facts.curve:
                    seed = f", seed {run.seed}" if len(line.method.runs) > 1 else ""
                    steps = [float(point.step) for point in facts.curve]
                    best = steps[-1] if facts.best_step is None else float(facts.best_step)
                    found.append((f"{name}: {stage}{seed}", steps, [each.valid_auc for each in facts.curve], best))
    return found


def _curve_figure(curves: list[Curve]) -> Figure:
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure = new_figure(3.4 * columns, 2.4 * rows)
    for number, (label, steps, values, best) in enumerate(curves):
        axes = figure.add_subplot(rows, columns, number + 1)
        axes.plot(steps, values, color=COLOURS[0], marker="." if len(steps) < 30 else None)
        if best in steps:
            axes.plot([best], [values[steps.index(best)]], marker="o", color=COLOURS[1])
        axes.set_title(label, fontsize=9)
        axes.set_xlabel("step")
        axes.set_ylabel("validation AUC")
    figure.tight_layout()
    return figure


def _calibration(block: Block) -> Figure:
    from sklearn.calibration import calibration_curve

    figure = new_figure(4.5, 4.5)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="#999999", linestyle="dashed", linewidth=1)
    for number, line in enumerate(block.methods):
        frame = line.method.frames[0]
        label, score = frame["label"].to_numpy(), frame["score"].to_numpy()
        share, mean = calibration_curve(label, np.clip(score, 0, 1), n_bins=CALIBRATION_BINS, strategy="quantile")
        axes.plot(mean, share, marker=".", color=COLOURS[number % len(COLOURS)], label=line.method.name)
    axes.set_xlabel("score")
    axes.set_ylabel("share of positive labels")
    axes.legend(loc="upper left")
    return figure


def _time(summary: Summary) -> Figure:
    timed = [(name, line.method.runs[0].results) for name, line in summary.methods]
    timed = [(name, results) for name, results in timed if results.timing]
    seconds = [results.seconds() for _, results in timed]
    stages = list(dict.fromkeys(stage for each in seconds for stage in each))
    figure = new_figure(7.0, 1.0 + 0.35 * len(timed))
    axes = figure.add_subplot()
    left = np.zeros(len(timed))
    for number, stage in enumerate(stages):
        widths = np.array([each.get(stage, 0.0) for each in seconds])
        axes.barh(range(len(timed)), widths, left=left, color=COLOURS[number % len(COLOURS)], label=stage, zorder=2)
        left += widths
    axes.set_yticks(range(len(timed)), [name for name, _ in timed])
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
    axes.grid(axis="x")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3)
    return figure
