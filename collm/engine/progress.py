"""Progress on stderr: a bar with rate and time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

SECONDS_BETWEEN_LINES = 15.0


class Ticker(Protocol):
    """Receives how far one piece of work has come."""

    def advance(self, amount: int, values: Mapping[str, float] | None = None) -> None:
        """Adds `amount` units done, with numbers to show beside the bar."""
        ...


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "-/s")


class _Bar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, amount: int, values: Mapping[str, float] | None = None) -> None:
        fields = {"values": _render(values)} if values else {}
        self._progress.update(self._task, advance=amount, **fields)  # type: ignore[arg-type]


class _Lines:
    def __init__(self, title: str, total: int, unit: str) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._done, self._values = 0, ""
        self._start = self._last = time.monotonic()

    def advance(self, amount: int, values: Mapping[str, float] | None = None) -> None:
        self._done += amount
        self._values = _render(values) if values else self._values
        now = time.monotonic()
        if now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            rate = self._done / (now - self._start)
            left = (self._total - self._done) / rate if rate else 0.0
            sys.stderr.write(
                f"{self._title}: {self._done}/{self._total} {self._unit}, {rate:.1f}/s, "
                f"{left:.0f} s left at most  {self._values}\n"
            )


class _Silence:
    def advance(self, amount: int, values: Mapping[str, float] | None = None) -> None:
        pass


@contextmanager
def progress(title: str, total: int, unit: str = "steps", *, shown: bool = True) -> Iterator[Ticker]:
    """Shows one piece of work while the block runs.

    Args:
        title: What runs, e.g. `tune_1 text`.
        total: Units at most.
        unit: What is counted.
        shown: Whether anything is shown; off in processes that leave speaking to another.
    """
    if not shown:
        yield _Silence()
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(title, total, unit)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TextColumn("{task.fields[values]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield _Bar(bar, bar.add_task(title, total=total, values=""))


def _render(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())
