"""The picture of `collm data describe`: rows over time, history lengths, popularity of items, balance of labels."""

from __future__ import annotations

import importlib.util
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from collm.errors import UsageError
from collm.inspect.description import Description
from collm.report.figures import COLOURS, STYLE
from collm.runs.store import replacing

FORMATS = (".png", ".svg", ".pdf")
DOTS_PER_INCH = 150
_COLOUR = dict(zip(("train", "valid", "test"), COLOURS, strict=False))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_DATE = 253_402_300_799  # the year 9999: no calendar has more
_SHORTEST_SPAN_S = 60


def check_picture(path: Path) -> None:
    """Looks, before long work, whether a picture can be written.

    Args:
        path: File to write.

    Raises:
        UsageError: If the ending is unknown, or matplotlib is not installed.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"--picture {path}: ending '{path.suffix}' is unknown; use {', '.join(FORMATS)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError("--picture needs matplotlib: pip install 'collm[report]'")


def write_picture(description: Description, path: Path, *, title: str) -> None:
    """Draws a dataset.

    Args:
        description: What to draw.
        path: File to write; its ending says the format.
        title: Heading.

    Raises:
        UsageError: As `check_picture`.
    """
    check_picture(path)
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 6.4), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left")
        grid = figure.subplots(2, 2)
        _rows_over_time(grid[0, 0], description)
        _shares(grid[0, 1], description)
        _history_lengths(grid[1, 0], description)
        _popularity(grid[1, 1], description)
        figure.legend(
            handles=[Patch(color=_COLOUR[split], label=split) for split in description.splits],
            loc="outside upper right",
            ncols=len(description.splits),
        )
        with replacing(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=DOTS_PER_INCH)


def _rows_over_time(axes: Any, description: Description) -> None:
    axes.set_title("Rows over time (UTC)" if description.dated else "Rows in the order of the file", loc="left")
    axes.set_ylabel("rows")
    edges = description.time_edges
    if not len(edges):
        return
    dated = description.dated and edges[-1] <= _LAST_DATE and edges[-1] - edges[0] > _SHORTEST_SPAN_S
    places: Any = [_EPOCH + timedelta(seconds=float(edge)) for edge in edges] if dated else edges
    below = np.zeros(len(edges) - 1)
    for split, counts in description.time_rows.items():
        axes.stairs(below + counts, places, baseline=below, fill=True, color=_COLOUR[split], zorder=2)
        below = below + counts
    _with_thousands(axes.yaxis)
    if not dated:
        _with_thousands(axes.xaxis)
        return
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(maxticks=7)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def _shares(axes: Any, description: Description) -> None:
    axes.set_title("Positive and warm rows", loc="left")
    for place, (split, facts) in enumerate(description.splits.items()):
        if not facts.rows:
            continue
        share = facts.positives / facts.rows
        _share(axes, place - 0.2, share, f"{share:.1%} positive", color=_COLOUR[split], alpha=1.0)
        if facts.warm is not None and facts.cold is not None:
            said = f"{facts.warm:.1%} warm, {facts.cold:.1%} cold"
            _share(axes, place + 0.2, facts.warm, said, color=_COLOUR[split], alpha=0.35)
    names = [f"{split}\n{facts.rows:,} rows" for split, facts in description.splits.items()]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.grid(visible=False)
    from matplotlib.ticker import PercentFormatter

    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))


def _share(axes: Any, place: float, share: float, said: str, *, color: str, alpha: float) -> None:
    """Draws one bar with its number: inside where there is room, else behind its end."""
    axes.barh(place, share, 0.38, color=color, alpha=alpha)
    inside = share > 0.5
    axes.text(
        share - 0.02 if inside else share + 0.02,
        place,
        said,
        ha="right" if inside else "left",
        va="center",
        color="white" if inside and alpha == 1.0 else "black",
    )


def _history_lengths(axes: Any, description: Description) -> None:
    axes.set_title(f"Items in the visible history ({description.visibility})", loc="left")
    axes.set_ylabel("share of the split's rows")
    longest = max(
        (int(np.flatnonzero(each.history_rows)[-1]) for each in description.splits.values() if each.rows), default=0
    )
    lengths = np.arange(description.max_items + 1)
    width = 0.8 / max(len(description.splits), 1)
    for number, (split, facts) in enumerate(description.splits.items()):
        shares = facts.history_rows / max(facts.rows, 1)
        left = lengths + (number - (len(description.splits) - 1) / 2) * width
        axes.bar(left, shares, width, color=_COLOUR[split], zorder=2)
    axes.set_xlabel(f"items (longer histories are cut to {description.max_items})")
    axes.set_xlim(-0.6, longest + 0.6)
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
