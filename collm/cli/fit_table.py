"""Makes a table fit a width: text wraps, and columns of numbers that do not fit go into further tables below.

Left to itself, rich drops columns and cuts cells; a cut interval reads as another number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.table import Column, Table
from rich.text import Text

# Text wraps to no less than this, where there is more of it.
TEXT_WIDTH = 14
PADDING = 3  # blanks between columns
FRAME = 4  # blanks and lines left and right of a table, at most


@dataclass(frozen=True)
class _Sized:
    """A column with the characters that it takes.

    Attributes:
        place: Its index in the table.
        least: Narrowest width in which every word of it is whole, or `TEXT_WIDTH`; equal to `most` for numbers.
        most: Width in which nothing wraps.
    """

    place: int
    least: int
    most: int


def fit_table(table: Table, width: int) -> list[Table]:
    """Returns tables that show every column and every character of `table` within a width.

    Columns with `no_wrap` or aligned right stay whole; the others wrap between words, and within a word only where it
    is longer than the width allows. The first column is repeated in every table.

    Args:
        table: The table; cells are text.
        width: Characters per line.

    Returns:
        The table itself where it fits as it is, else one or more tables with fixed column widths.
    """
    sized = [_sized(place, column) for place, column in enumerate(table.columns)]
    if not sized or _total(each.most for each in sized) <= width:
        return [table]
    groups = list(_groups(sized, width))
    return [_part(table, group, width, first=number == 0) for number, group in enumerate(groups)]


def _sized(place: int, column: Column) -> _Sized:
    lines = [line for cell in (column.header, *column.cells) for line in _text(cell).split("\n")]
    most = max((cell_len(line) for line in lines), default=0)
    if column.no_wrap or column.justify == "right":
        return _Sized(place, most, most)
    word = max((cell_len(word) for line in lines for word in line.split()), default=0)
    return _Sized(place, min(most, max(min(word, 2 * TEXT_WIDTH), TEXT_WIDTH)), most)


def _groups(sized: Sequence[_Sized], width: int) -> Iterator[list[_Sized]]:
    """Yields the columns of each table: the first one, and as many others as fit."""
    key, *others = sized
    group = [key]
    for column in others:
        if len(group) > 1 and _total(each.least for each in (*group, column)) > width:
            yield group
            group = [key]
        group.append(column)
    yield group


def _part(table: Table, group: Sequence[_Sized], width: int, *, first: bool) -> Table:
    title = table.title if first or table.title is None else f"{_text(table.title)} (continued)"
    part = Table(
        title=title,
        caption=table.caption,
        title_justify=table.title_justify,
        title_style=table.title_style,
        box=table.box,
        pad_edge=table.pad_edge,
        show_header=table.show_header,
    )
    for column, size in zip(group, _widths(group, width), strict=True):
        old = table.columns[column.place]
        part.add_column(old.header, justify=old.justify, style=old.style, width=size, overflow="fold")
    cells = [list(table.columns[column.place].cells) for column in group]
    for number, row in enumerate(table.rows):
        part.add_row(*(column[number] for column in cells), style=row.style, end_section=row.end_section)
    return part


def _widths(group: Sequence[_Sized], width: int) -> list[int]:
    """Returns a width per column: its least, and what is left of the line for those that could use more."""
    sizes = [column.least for column in group]
    if (over := _total(sizes) - width) > 0:
        # A single column beside the first is wider than the line: both wrap within words, nothing is lost.
        sizes[0] = max(1, sizes[0] - over) if sizes[0] - over >= TEXT_WIDTH // 2 else max(1, TEXT_WIDTH // 2)
        sizes[1:] = [max(1, min(size, width - _total([sizes[0], 0]))) for size in sizes[1:]]
        return sizes
    spare = width - _total(sizes)
    while spare > 0 and (growing := [index for index, each in enumerate(group) if sizes[index] < each.most]):
        for index in growing[:spare]:
            sizes[index] += 1
        spare = width - _total(sizes)
    return sizes


def _total(widths: Iterable[int]) -> int:
    sizes = list(widths)
    return sum(sizes) + PADDING * (len(sizes) - 1) + FRAME


def _text(cell: Any) -> str:
    return cell.plain if isinstance(cell, Text) else str(cell)
