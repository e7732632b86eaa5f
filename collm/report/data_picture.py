"""The picture of `collm data describe`: rows over time, history lengths, popularity of items, balance of labels."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from collm.data.description import Description
from collm.errors import UsageError
from collm.report.figures import COLOURS, STYLE
from collm.runs.store import replacing

FORMATS = (".png", ".svg", ".pdf")
DOTS_PER_INCH = 150
_COLOUR = dict(zip(("train", "valid", "test"), COLOURS, strict=False))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DATES = (0, 253_402_300_799)  # what a calendar has: 1970 to 9999


def write_picture(description: Description, path: Path, *, title: str) -> None:
    """Draws a dataset.

    Args:
        description: What to draw.
        path: File to write; its ending says the format.
        title: Heading.

    Raises:
        UsageError: If the ending is unknown, or matplotlib is not installed.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"--picture {path}: ending '{path.suffix}' is unknown; use {', '.join(FORMATS)}")
    try:
        import matplotlib
    except ImportError as error:
        raise UsageError("pictures need matplotlib: pip install 'collm[report]'") from error
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 6.4), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left")
        grid = figure.subplots(2, 2)
        _rows_over_time(grid[0, 0], description)
        _label_balance(grid[0, 1], description)
        _history_lengths(grid[1, 0], description)
        _popularity(grid[1, 1], description)
        with replacing(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=DOTS_PER_INCH)


def _rows_over_time(axes: Any, description: Description) -> None:
    axes.set_title("Rows over time (UTC)", loc="left")
    axes.set_ylabel("rows")
    edges = description.time_edges
    if not len(edges):
        return
    dated = _DATES[0] <= edges[0] and edges[-1] <= _DATES[1] and edges[-1] - edges[0] > 60
    places: Any = [_EPOCH + timedelta(seconds=float(edge)) for edge in edges] if dated else edges
    below = np.zeros(len(edges) - 1)
    for split, counts in description.time_rows.items():
        axes.stairs(below + counts, places, baseline=below, fill=True, color=_COLOUR[split], label=split, zorder=2)
        below = below + counts
    axes.legend(loc="best")
    _with_thousands(axes.yaxis)
    if dated:
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

        locator = AutoDateLocator(maxticks=7)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def _label_balance(axes: Any, description: Description) -> None:
    axes.set_title("Labels", loc="left")
    splits = list(description.splits)
    for place, (split, facts) in enumerate(description.splits.items()):
        share = facts.positives / facts.rows if facts.rows else 0.0
        axes.barh(place, share, color=_COLOUR[split])
        axes.barh(place, (1 - share) if facts.rows else 0.0, left=share, color=_COLOUR[split], alpha=0.25)
        said = f"{share:.1%} positive of {facts.rows:,}" if facts.rows else "no rows"
        axes.text(0.02, place, said, va="center", color="white" if share > 0.45 else "black")
    axes.set_yticks(range(len(splits)), splits)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of rows with label 1 (dark) and 0 (light)")
    axes.grid(visible=False)


def _history_lengths(axes: Any, description: Description) -> None:
    axes.set_title(f"Items in the visible history ({description.visibility})", loc="left")
    axes.set_ylabel("share of the split's rows")
    lengths = np.arange(description.max_items + 1)
    width = 0.8 / max(len(description.splits), 1)
    for number, (split, facts) in enumerate(description.splits.items()):
        shares = facts.history_rows / max(facts.rows, 1)
        left = lengths + (number - (len(description.splits) - 1) / 2) * width
        axes.bar(left, shares, width, color=_COLOUR[split], label=split, zorder=2)
    axes.set_xlabel(f"items (longer histories are cut to {description.max_items})")
    axes.legend(loc="best")
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))


def _popularity(axes: Any, description: Description) -> None:
    trained = description.item_rows[description.item_rows > 0]
    unseen = len(description.item_rows) - len(trained)
    axes.set_title("Popularity of items", loc="left")
    axes.set_xlabel(f"rank; {unseen:,} of {len(description.item_rows):,} items have no training row")
    axes.set_ylabel("training rows")
    if not len(trained):
        return
    axes.loglog(np.arange(1, len(trained) + 1), trained, color=COLOURS[0])
    axes.grid(visible=True, axis="both")
    for axis in (axes.xaxis, axes.yaxis):
        _with_thousands(axis)


def _with_thousands(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
