"""The sweep as a picture, drawn with matplotlib (extra `report`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from collm.bench.sweep import Cell
from collm.errors import UsageError

# Distinguishable in print and for colour-blind readers (Okabe and Ito 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


def draw_sweep(cells: Sequence[Cell], files: Sequence[Path], *, title: str) -> None:
    """Draws milliseconds per candidate over candidates, one line per history length, beside the plain loop's.

    Args:
        cells: What was measured.
        files: Where to write; the suffix decides the format, e.g. `.svg` or `.png`.
        title: Heading.

    Raises:
        UsageError: If matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("--sweep draws with matplotlib: pip install 'collm[report]'") from error
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for colour, history in zip(COLOURS, dict.fromkeys(cell.history for cell in cells), strict=False):
        line = [cell for cell in cells if cell.history == history]
        sizes = [cell.candidates for cell in line]
        axes.plot(sizes, [cell.ours_ms for cell in line], marker="o", color=colour, label=f"{history} titles")
        axes.plot(sizes, [cell.plain_ms for cell in line], linestyle=":", color=colour, label=f"{history}, plain loop")
    axes.set(xscale="log", yscale="log", xlabel="candidates ranked at once", ylabel="milliseconds per candidate")
    axes.set_title(title)
    axes.grid(color="#dddddd")
    axes.legend(frameon=False, fontsize=8)
    for file in files:
        figure.savefig(file, dpi=150)
