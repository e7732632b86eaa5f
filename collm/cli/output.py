"""The two output streams: stdout carries the result and nothing else, stderr everything else; both are harmless."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from rich.cells import cell_len
from rich.table import Column, Table
from rich.text import Text

from collm.cli.processes import is_main_process
from collm.visible import shown, visible, without_passwords

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

PIPED_WIDTH = 120
# JSON has escapes of its own below U+0020; these would reach a terminal as they are.
_BARE_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# Text wraps to no less than this, where there is more of it.
TEXT_WIDTH = 14
PADDING = 3  # blanks between columns
FRAME = 4  # blanks and lines left and right of a table, at most


@dataclass
class _Streams:
    """Where results go: `own` = the process may rearrange its streams, `result` = what stdout was before it did."""

    own: bool = False
    result: TextIO | None = None


_streams = _Streams()


def own_streams() -> None:
    """Says that this process is the command line itself; consoles of any encoding show what they can."""
    _streams.own = True
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def keep_stdout_for_results() -> None:
    """Sends to stderr whatever anything but a command writes to stdout from now on: plugins, libraries, children."""
    if not _streams.own or _streams.result is not None or sys.stdout is None or sys.stderr is None:
        return
    try:
        sys.stdout.flush()
        kept = os.dup(sys.stdout.fileno())
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    except (OSError, ValueError):
        return
    os.set_inheritable(kept, False)
    _streams.result = os.fdopen(kept, "w", encoding=sys.stdout.encoding, errors="backslashreplace")
    sys.stdout = sys.stderr


def result_stream() -> TextIO:
    """Returns the stream that carries the result."""
    return _streams.result or sys.stdout


def flush_result() -> None:
    """Writes out what is buffered of the result.

    Raises:
        BrokenPipeError: If the reader went away.
    """
    if result_stream() is not None:
        result_stream().flush()


def drop_result() -> None:
    """Forgets what is buffered of the result, so that nothing is raised at exit: the reader went away."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), result_stream().fileno())


def say(message: str) -> None:
    """Writes a line to stderr: no wrapping, no colour, no control characters. Of several processes the main speaks."""
    if is_main_process():
        complain(message)


def complain(message: str) -> None:
    """Writes a line to stderr from whichever process this is."""
    print(shown(message), file=sys.stderr, flush=True)


def emit(text: str) -> None:
    """Writes a part of the result to stdout; control characters in it are written out."""
    print(visible(text), file=result_stream())


def emit_json(content: Mapping[str, Any]) -> None:
    """Writes the result as JSON to stdout: in ASCII where stdout has another encoding than UTF-8."""
    encoding = (getattr(result_stream(), "encoding", None) or "utf-8").lower().replace("-", "")
    text = json.dumps(_clean(content), indent=2, ensure_ascii=encoding != "utf8", allow_nan=False)
    print(_BARE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text), file=result_stream())


def emit_table(*renderables: RenderableType) -> None:
    """Writes tables to stdout, every column and character of them; control characters are written out.

    As wide as the terminal; where there is none, without colour and as wide as `COLUMNS` says, else `PIPED_WIDTH`.
    """
    from rich.console import Console
    from rich.table import Table

    from collm.cli.output import fit_table

    # What is shown is data: brackets and colons in it are not markup.
    options: dict[str, Any] = {"file": result_stream(), "highlight": False, "markup": False, "emoji": False}
    console = Console(**options)
    if not console.is_terminal:
        asked = os.environ.get("COLUMNS", "")
        width = int(asked) if asked.isdecimal() and int(asked) > 0 else PIPED_WIDTH
        console = Console(**options, width=width, color_system=None)
    for renderable in renderables:
        parts = fit_table(renderable, console.width) if isinstance(renderable, Table) else [renderable]
        for part in parts:
            console.print(_Visible(part))


@dataclass(frozen=True)
class _Visible:
    """Shows a renderable with the control characters of its texts written out."""

    renderable: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.segment import Segment

        for text, style, control in console.render(self.renderable, options):
            yield Segment(text if control else visible(text), style, control)


def _clean(content: Any) -> Any:
    """Returns plain data without the passwords of addresses in it."""
    if isinstance(content, str):
        return without_passwords(content)
    if isinstance(content, Mapping):
        return {key: _clean(each) for key, each in content.items()}
    if isinstance(content, list | tuple):
        return [_clean(each) for each in content]
    return content


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
    floor = column.min_width or 0
    most = max(floor, max((cell_len(line) for line in lines), default=0))
    if column.no_wrap or column.justify == "right":
        return _Sized(place, most, most)
    word = max((cell_len(word) for line in lines for word in line.split()), default=0)
    return _Sized(place, max(floor, min(most, max(min(word, 2 * TEXT_WIDTH), TEXT_WIDTH))), most)


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
