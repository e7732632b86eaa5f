"""Progress on stderr: one live display of all that runs on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

SECONDS_BETWEEN_LINES = 30.0
# Narrower terminals have no room for losses and rates beside the bar.
WIDTH_FOR_VALUES = 110


class Ticker(Protocol):
    """Receives how far one piece of work has come."""

    def advance(self, amount: int, values: Mapping[str, float] | None = None) -> None:
        """Adds `amount` units done, with numbers to show beside the bar."""
        ...


class _Count(ProgressColumn):
    """Units done, of how many, and per second; nothing where nothing is counted."""

    def render(self, task: Task) -> Text:
        if task.total is None:
            return Text("")
        rate = f" {task.speed:.1f}/s" if task.speed else ""
        return Text(f"{int(task.completed):,}/{int(task.total):,} {task.fields['unit']}{rate}")


class _Left(TimeRemainingColumn):
    """Time left where something is counted."""

    def render(self, task: Task) -> Text:
        return Text("") if task.total is None else super().render(task)


class _Display:
    """The live display: one row for each piece of work within another, made when the first of them begins."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._tasks: list[TaskID] = []

    @contextmanager
    def row(self, console: Console, title: str, total: int | None, unit: str, done: int) -> Iterator[Ticker]:
        progress = self._begin(console) if self._progress is None else self._progress
        shown = f"{'  ' * len(self._tasks)}{title}"
        task = progress.add_task(shown, total=total, completed=done, unit=unit, values="")
        self._tasks.append(task)
        try:
            yield _Bar(progress, task)
        finally:
            self._tasks.remove(task)
            progress.remove_task(task)
            if not self._tasks:
                progress.stop()
                self._progress = None

    def _begin(self, console: Console) -> Progress:
        values = (TextColumn("{task.fields[values]}"),) if console.width >= WIDTH_FOR_VALUES else ()
        columns = (
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis")),
            BarColumn(bar_width=12),
            _Count(table_column=Column(no_wrap=True)),
            *values,
            TimeElapsedColumn(),
            _Left(),
        )
        # Results go to stdout, which is not this display's.
        self._progress = Progress(*columns, console=console, transient=True, redirect_stdout=False)
        self._progress.start()
        return self._progress


_DISPLAY = _Display()
# Titles of the work that is under way, outermost first.
_TITLES: list[str] = []


class _Bar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, amount: int, values: Mapping[str, float] | None = None) -> None:
        fields = {"values": _render(values)} if values else {}
        self._progress.update(self._task, advance=amount, **fields)  # type: ignore[arg-type]


class _Lines:
    def __init__(self, title: str, total: int | None, unit: str, done: int) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._before = self._done = done
        self._values = ""
        self._start = self._last = time.monotonic()

    def advance(self, amount: int, values: Mapping[str, float] | None = None) -> None:
        self._done += amount
        self._values = _render(values) if values else self._values
        now = time.monotonic()
        if self._total is not None and now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            rate = (self._done - self._before) / (now - self._start)
            left = (self._total - self._done) / rate if rate else 0.0
            sys.stderr.write(
                f"{self._title}: {self._done:,}/{self._total:,} {self._unit}, {rate:.1f}/s, "
                f"{left:.0f} s left at most  {self._values}\n"
            )


class _Silence:
    def advance(self, amount: int, values: Mapping[str, float] | None = None) -> None:
        pass


@contextmanager
def progress(
    title: str = "", total: int | None = None, unit: str = "steps", *, done: int = 0, shown: bool = True
) -> Iterator[Ticker]:
    """Shows one piece of work while the block runs, below the work that it is a part of.

    Args:
        title: What runs, e.g. `tune_1 text`; empty = a part of what is shown already, and nothing where nothing is.
        total: Units at most; None where nothing is counted.
        unit: What is counted.
        done: Units done before, e.g. up to the checkpoint that a training continues from; the rate leaves them out.
        shown: Whether anything is shown; off in processes that leave speaking to another.
    """
    if not shown or not (title or _TITLES):
        yield _Silence()
        return
    console, above = Console(stderr=True), _TITLES[-1] if _TITLES else ""
    _TITLES.append(title or above)
    try:
        if console.is_terminal:
            with _DISPLAY.row(console, unit if title in ("", above) else title, total, unit, done) as ticker:
                yield ticker
        else:
            yield _Lines(_TITLES[-1], total, unit, done)
    finally:
        _TITLES.pop()


def _render(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())
