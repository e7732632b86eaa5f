"""How the cost of one sample grows: with the titles in its history, the candidates ranked at once, and the rows."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from collm.bench.cases import scorer
from collm.bench.flops import count_tokens
from collm.bench.machine import Clock, peak_memory_gb
from collm.bench.plain import PlainLoop
from collm.bench.subject import Subject
from collm.errors import UsageError

logger = logging.getLogger(__name__)
HISTORIES: tuple[int, ...] = (0, 10, 50, 200)
CANDIDATES: tuple[int, ...] = (1, 10, 100, 1_000, 10_000)
ROWS: tuple[int, ...] = (1_000, 10_000, 100_000)
# A plain prompt costs the same in every batch of 16, whatever the other prompts.
PLAIN_ROWS = 16
# Requests beyond this size are measured once: they are as long as many smaller ones.
REPEATED_UP_TO = 100
WARM_UP_ROWS = 10
COUNTED_ROWS = 2_000
# Distinguishable in print and for colour-blind readers (Okabe and Ito 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


@dataclass(frozen=True)
class Cell:
    """Cost of ranking some candidates for one user.

    Attributes:
        history: Titles per prompt at most.
        candidates: Items ranked at once.
        ours_ms: Milliseconds per candidate, median.
        plain_ms: Milliseconds per candidate in the plain loop, median.
        tokens: Distinct tokens per candidate, mean.
        prompt_tokens: Tokens per prompt, mean.
        users: Users measured.
    """

    history: int
    candidates: int
    ours_ms: float
    plain_ms: float
    tokens: float
    prompt_tokens: float
    users: int


@dataclass(frozen=True)
class Growth:
    """Cost of scoring some rows in one call.

    Attributes:
        rows: Distinct pairs of a user and an item.
        row_ms: Milliseconds per row, tokenising included.
        tokens: Distinct tokens per row; fewer, the more rows a user has.
        token_us: Microseconds per distinct token.
        peak_memory_gb: Peak memory of the call, in 1e9 bytes, the model included.
    """

    rows: int
    row_ms: float
    tokens: float
    token_us: float
    peak_memory_gb: float


def growth(subject: Subject, clock: Clock, *, sizes: Sequence[int] = ROWS) -> list[Growth]:
    """Measures calls for more and more rows: what a row costs beyond its tokens, and what stays in memory.

    Args:
        subject: The spec's model and data.
        clock: Which time counts.
        sizes: Rows per call; more than there are pairs count once.

    Returns:
        One entry per size, rising.
    """
    found: list[Growth] = []
    variant = subject.setup.strategy.variant
    for size in sorted(set(sizes)):
        view, rows = subject.pairs(size)
        if found and len(rows) == found[-1].rows:
            continue
        if found:
            logger.info("%d rows: about %.0f s", len(rows), len(rows) * found[-1].row_ms / 1e3)
        source = subject.source(variant, data=view)
        score = scorer(subject, source)
        score(rows.take(np.arange(min(len(rows), WARM_UP_ROWS))))
        seconds: list[float] = []
        memory = peak_memory_gb(lambda: seconds.append(clock.seconds(lambda: score(rows))), subject.device)  # noqa: B023
        # Counted on users drawn evenly: all rows of one tree would need more memory than their scores.
        users = np.unique(rows.user)[:: max(1, len(rows) // COUNTED_ROWS)]
        counted = rows.take(np.flatnonzero(np.isin(rows.user, users)))
        tokens = count_tokens(source.encode(counted), np.arange(len(counted)), trains=False, lora_trains=False).forward
        row_ms, per_row = seconds[0] / len(rows) * 1e3, tokens / len(counted)
        found.append(Growth(len(rows), row_ms, per_row, row_ms / per_row * 1e3, memory))
    return found


def sweep(
    subject: Subject,
    clock: Clock,
    *,
    histories: Sequence[int] = HISTORIES,
    candidates: Sequence[int] = CANDIDATES,
    repetitions: int = 3,
) -> list[Cell]:
    """Measures every combination.

    Args:
        subject: The spec's model and data.
        clock: Which time counts.
        histories: Titles per prompt at most.
        candidates: Items ranked at once; cut to the items that every user has not rated.
        repetitions: Users per combination; one beyond `REPEATED_UP_TO` candidates.

    Returns:
        One cell per combination, histories outermost.
    """
    loop = PlainLoop(subject)
    sizes = sorted({min(each, _most(subject, histories, repetitions)) for each in candidates})
    cells = []
    for history in histories:
        plain_ms = _plain_ms(subject, loop, clock, history, repetitions)
        for size in sizes:
            cells.append(_cell(subject, clock, history, size, plain_ms, repetitions if size <= REPEATED_UP_TO else 1))
            logger.info("%d titles, %d candidates: %.1f ms, plain %.1f ms", history, size, cells[-1].ours_ms, plain_ms)
    return cells


def sweep_content(cells: Sequence[Cell], rows: Sequence[Growth]) -> dict[str, Any]:
    """Returns what was measured as JSON."""
    return {
        "cells": [asdict(cell) | {"speedup": cell.plain_ms / cell.ours_ms} for cell in cells],
        "rows": [asdict(each) for each in rows],
    }


def _cell(subject: Subject, clock: Clock, history: int, size: int, plain_ms: float, n_users: int) -> Cell:
    view, requests = subject.requests(n_users, size, history_items=history)
    source = subject.source(subject.setup.strategy.variant, history_items=history, data=view)
    score = scorer(subject, source)
    prompts = source.encode(requests[0])
    score(requests[0].take(np.arange(min(size, WARM_UP_ROWS))))
    tokens = count_tokens(prompts, np.arange(len(prompts)), trains=False, lora_trains=False).forward
    spent = [clock.seconds(lambda rows=rows: score(rows)) for rows in requests]  # type: ignore[misc]
    return Cell(
        history=history,
        candidates=size,
        ours_ms=statistics.median(spent) / size * 1e3,
        plain_ms=plain_ms,
        tokens=tokens / size,
        prompt_tokens=len(prompts.prompts.ids) / size,
        users=len(requests),
    )


def _most(subject: Subject, histories: Sequence[int], n_users: int) -> int:
    """Returns how many candidates every user of the sweep has."""
    everything = subject.data.n_items
    requests = [subject.requests(n_users, everything, history_items=history)[1] for history in histories]
    return min(len(rows) for each in requests for rows in each)


def _plain_ms(subject: Subject, loop: PlainLoop, clock: Clock, history: int, n_users: int) -> float:
    view, requests = subject.requests(n_users, PLAIN_ROWS, history_items=history)
    variant = subject.setup.strategy.variant
    loop.score(requests[0], variant, data=view, history_items=history)
    return statistics.median(
        clock.seconds(lambda rows=rows: loop.score(rows, variant, data=view, history_items=history)) / len(rows) * 1e3  # type: ignore[misc]
        for rows in requests
    )


def draw_sweep(cells: Sequence[Cell], files: Sequence[Path], *, title: str) -> None:
    """Draws milliseconds per candidate over candidates, one line per history length, beside the plain loop's.

    Args:
        cells: What was measured.
        files: Where to write; the suffix decides the format, e.g. `.svg` or `.png`.
        title: Heading.

    Raises:
        UsageError: If matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("--sweep draws with matplotlib: pip install 'collm[report]'") from error
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for colour, history in zip(COLOURS, dict.fromkeys(cell.history for cell in cells), strict=False):
        line = [cell for cell in cells if cell.history == history]
        sizes = [cell.candidates for cell in line]
        axes.plot(sizes, [cell.ours_ms for cell in line], marker="o", color=colour, label=f"{history} titles")
        axes.plot(sizes, [cell.plain_ms for cell in line], linestyle=":", color=colour, label=f"{history}, plain loop")
    axes.set(xscale="log", yscale="log", xlabel="candidates ranked at once", ylabel="milliseconds per candidate")
    axes.set_title(title)
    axes.grid(color="#dddddd")
    axes.legend(frameon=False, fontsize=8)
    for file in files:
        figure.savefig(file, dpi=150)
