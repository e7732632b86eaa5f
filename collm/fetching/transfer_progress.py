"""How far a download has come, on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as RichProgress

from collm.fetching.http_transfer import Progress
from collm.fetching.remote_files import size_text

SECONDS_BETWEEN_LINES = 15.0


@contextmanager
def transfer_progress(name: str) -> Iterator[Progress]:
    """Shows one download while the block runs.

    Args:
        name: The file.

    Yields:
        What to call with the bytes that have arrived and those of the whole file.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(name)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class _Lines:
    def __init__(self, name: str) -> None:
        self._name, self._last = name, time.monotonic()

    def __call__(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            of = "" if total is None else f" of {size_text(total)}"
            sys.stderr.write(f"{self._name}: {size_text(done)}{of}\n")
