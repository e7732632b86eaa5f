"""Tables as text cells, and how numbers are written in them."""

from __future__ import annotations

from dataclasses import dataclass

from collm.report.methods import Cell
from collm.report.table import METRIC_TITLES


@dataclass(frozen=True)
class Text:
    """One cell: its text, where it links to, whether it stands out."""

    text: str
    link: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Grid:
    """One table.

    Attributes:
        key: Name for links, e.g. `results-all`.
        title: Heading.
        header: Names of columns.
        rows: Cells by row.
        dim: Whether a row stands back (floors).
        text_columns: Columns that hold text; the others are right-aligned.
        caption: What a reader must know of it.
    """

    key: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Text, ...], ...]
    dim: tuple[bool, ...]
    text_columns: frozenset[int] = frozenset({0})
    caption: str = ""


def metric_title(name: str) -> str:
    """Returns how a metric is written in tables."""
    return METRIC_TITLES.get(name, name)


def cell_text(cell: Cell) -> str:
    """Returns value, interval, and on a second line the range over seeds where there are several."""
    if cell.value is None:
        return cell.reason or "no usable rows"
    text = f"{cell.value:.4f}"
    if cell.low is not None and cell.high is not None:
        text += f" [{cell.low:.3f}, {cell.high:.3f}]"
    if cell.smallest is not None and cell.largest is not None and cell.smallest != cell.largest:
        text += f"\n({cell.smallest:.4f}-{cell.largest:.4f})"
    return text
