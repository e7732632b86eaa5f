"""The first screen of a report: its best method in words, against the best floor and the others, and in pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from collm.report.compare import Difference
from collm.report.figures import COLOURS, Picture, as_svg, new_figure, style
from collm.report.grid import Cell, metric_title
from collm.report.records import Block, Line, Summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OVERVIEW_METRICS = 3
LONGEST_NAME = 28


def verdicts(summary: Summary) -> tuple[str, ...]:
    """Returns two sentences for each set of rows, on the first metric; fewer where there is less to say."""
    return tuple(sentence for block in summary.blocks for sentence in _verdict(summary, block))


def ranked(summary: Summary, block: Block, metric: str) -> list[Line]:
    """Returns the methods that have a value on all rows, the best first; ties in the order of the tables."""
    whole = summary.slices[0]
    sign = -1.0 if summary.higher_is_better[metric] else 1.0
    lines = [line for line in block.methods if line.cells[whole][metric].value is not None]
    return sorted(lines, key=lambda line: sign * (line.cells[whole][metric].value or 0.0))


def _verdict(summary: Summary, block: Block) -> Iterator[str]:
    metric, whole = summary.metrics[0], summary.slices[0]
    order = ranked(summary, block, metric)
    if not order:
        return
    best, title = order[0], metric_title(metric)
    rows = f"{block.n_rows:,} {summary.split} rows of {block.n_users:,} users"
    head = f"{block.titled(best.method.name)} has the best {title} of {len(order)} methods"
    if len(order) == 1:
        head = f"{block.titled(best.method.name)} is the only method"
    said = f"{head}, {_number(best.cells[whole][metric])} on {rows}"
    if floor := best.bars.get(metric):
        said += f"; {_against(block, best.method.name, floor, metric, f'the best floor that sees as much, {floor}')}"
    yield f"{said}."
    others = [_seen_from(block, best.method.name, line.method.name, metric) for line in order[1:]]
    found = [pair for pair in others if pair is not None]
    if not found:
        return
    if not any(_is_tested(pair) for pair in found):
        yield (
            f"The difference to the next method, {order[1].method.name}, is {_gap(found[0])}; one seed is not tested, "
            "because another might change the order."
        )
        return
    worse = [pair.second for pair in found if pair.significant]
    open_ = [pair.second for pair in found if not pair.significant]
    said = f"It differs significantly from {', '.join(worse)}" if worse else "It differs significantly from no other"
    if worse and open_:
        said += f", and not from {', '.join(open_)}"
    yield f"{said} (paired test, Holm's correction)."


def _against(block: Block, name: str, other: str, metric: str, called: str) -> str:
    pair = _seen_from(block, name, other, metric)
    if pair is None:
        return f"{called} is not compared with it"
    if not _is_tested(pair):
        return f"its difference to {called}, is {_gap(pair)} over users, and one seed is not tested"
    if not pair.significant:
        return f"its difference to {called}, is {_gap(pair)}, not significant (p {pair.p_holm:.2g})"
    return f"its difference to {called}, is {_gap(pair)} (p {pair.p_holm:.2g})"


def _seen_from(block: Block, first: str, second: str, metric: str) -> Difference | None:
    """Returns the comparison of two methods, turned around where it is stored the other way; None without one."""
    for each in block.comparisons:
        if each.metric != metric or {each.first, each.second} != {first, second}:
            continue
        if each.first == first:
            return each
        return replace(each, first=first, second=second, value=-each.value, low=-each.high, high=-each.low)
    return None


def _is_tested(pair: Difference) -> bool:
    return not math.isnan(pair.p_holm)


def _number(cell: Cell) -> str:
    between = "" if cell.low is None or cell.high is None else f" [{cell.low:.3f}, {cell.high:.3f}]"
    return f"{cell.value:.4f}{between}"


def _gap(pair: Difference) -> str:
    return f"{pair.value:+.4f} [{pair.low:.3f}, {pair.high:.3f}]"


def overview_figures(summary: Summary) -> list[Picture]:
    """Draws the first screen of a page: every method on all rows, one picture per metric and set of rows.

    Raises:
        UsageError: If matplotlib is not installed.
    """
    with style():
        return [
            Picture(
                f"overview-{metric}{f'-{block.label.lower()}' if block.label else ''}",
                block.titled(metric_title(metric)),
                as_svg(_dots(summary, block, metric)),
                f"{block.n_rows:,} {summary.split} rows",
            )
            for block in summary.blocks
            for metric in summary.metrics[:OVERVIEW_METRICS]
            if ranked(summary, block, metric)
        ]


def _dots(summary: Summary, block: Block, metric: str) -> Figure:
    """One dot per method, the best at the top, with its interval; floors are a band and the best of them a line."""
    whole, lines = summary.slices[0], ranked(summary, block, metric)
    figure = new_figure(4.4, 0.9 + 0.26 * len(lines))
    axes = figure.add_subplot()
    floors = [line.cells[whole][metric].value for line in block.lines if line.method.floor]
    values = [value for value in floors if value is not None]
    if values:
        best = max(values) if summary.higher_is_better[metric] else min(values)
        axes.axvspan(min(values), max(values), color="#e4e4e4", zorder=0)
        axes.axvline(best, color="#777777", linestyle="dashed", linewidth=1, zorder=1)
    for place, line in enumerate(lines):
        cell = line.cells[whole][metric]
        assert cell.value is not None
        colour = COLOURS[1] if place == 0 else COLOURS[0]
        if cell.low is not None and cell.high is not None:
            axes.plot([cell.low, cell.high], [place, place], color=colour, linewidth=1.5)
        axes.plot([cell.value], [place], "D" if place == 0 else "o", color=colour, markersize=6 if place == 0 else 5)
    axes.set_yticks(range(len(lines)), [_short(line.method.name) for line in lines])
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.grid(visible=True, axis="x", color="#eeeeee")
    axes.grid(visible=False, axis="y")
    axes.set_title(metric_title(metric), loc="left", fontsize=10, fontweight="bold")
    return figure


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}\u2026"
