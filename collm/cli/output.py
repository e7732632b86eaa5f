"""The two output streams: stdout carries the result and nothing else, stderr everything else; both are harmless."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from collm.cli.processes import is_main_process
from collm.visible import shown, visible, without_passwords

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

PIPED_WIDTH = 120
# JSON has escapes of its own below U+0020; these would reach a terminal as they are.
_BARE_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


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

    from collm.cli.fit_table import fit_table

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
