"""Tables as text cells, and how numbers are written in them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text as RichText

from collm.runs.records import RunResults

SPLIT_ORDER = ("test", "valid", "train")
METRIC_TITLES = {"auc": "AUC", "uauc": "uAUC", "ndcg": "NDCG", "gauc": "GAUC", "hr": "HR", "mrr": "MRR", "map": "MAP"}


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    Attributes:
        value: Mean over seeds; None where the metric is not defined.
        low: Lower end of the 95% interval: users, and seeds where there are several.
        high: Upper end.
        smallest: Smallest value over seeds.
        largest: Largest value over seeds.
        n: Rows or users that it averages over.
        skipped: Reason -> rows or users left out.
        reason: Why there is no value.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    smallest: float | None = None
    largest: float | None = None
    n: int = 0
    skipped: Mapping[str, int] | None = None
    reason: str = ""


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
    """Returns how a metric is written in tables: its label with the usual spelling of the name."""
    base = re.split(r"[@(]", name, maxsplit=1)[0]
    return METRIC_TITLES.get(base, base) + name.removeprefix(base)


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


def sizes(cells: Mapping[str, Cell]) -> str:
    """Returns what each metric averages over, equal ones together, with what was left out.

    Args:
        cells: Metric -> cell.
    """
    groups: dict[str, list[str]] = {}
    for metric, cell in cells.items():
        skipped = ", ".join(f"{count:,} {reason}" for reason, count in sorted((cell.skipped or {}).items()))
        size = f"n={cell.n:,}" + (f", skipped {skipped}" if skipped else "")
        groups.setdefault(size, []).append(metric_title(metric))
    return "; ".join(f"{'/'.join(names)} {size}" for size, names in groups.items())


def default_split(splits: Iterable[Collection[str]]) -> str:
    """Returns the split that is shown where none was asked for: `test`, or the first one that runs have.

    Args:
        splits: The splits of each run.
    """
    present = dict.fromkeys(split for each in splits for split in each)
    return next((split for split in SPLIT_ORDER if split in present), next(iter(present), "test"))


def ranked_split(results: Iterable[RunResults], shown: str) -> str:
    """Returns the split whose rankings are shown: the split of the rows if it was ranked, else one that was."""
    present = list(dict.fromkeys(split for each in results for split in each.ranking))
    return shown if shown in present or not present else default_split([present])


def rich_table(grid: Grid, limit: int | None = None) -> Table:
    """Returns a table for a terminal, of `limit` rows at most."""
    table = Table(title=grid.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(grid.header):
        is_text = index in grid.text_columns
        justify: Literal["left", "right"] = "left" if is_text else "right"
        table.add_column(name, justify=justify, overflow="fold", no_wrap=not is_text, min_width=None if index else 12)
    for row, dim in list(zip(grid.rows, grid.dim, strict=True))[:limit]:
        cells = [RichText(cell.text, style="bold" if cell.strong else "") for cell in row]
        table.add_row(*cells, style="dim" if dim else None)
    return table


def bullets(title: str, lines: Iterable[str]) -> list[RenderableType]:
    """Returns a heading with indented lines below it; nothing without lines."""
    shown = [RichText(f"  {line}", overflow="fold") for line in lines]
    return [RichText(f"{title}:", style="bold"), *shown] if shown else []
