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
WHOLE = "all"  # the slice of all rows


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
    best = order[0]
    cell = best.cells[whole][metric]
    leaders = [line.method.name for line in order if line.cells[whole][metric].value == cell.value]
    of = "" if len(order) == 1 else f"the best {metric_title(metric)} of {len(order)} methods"
    value = _number(cell) if of else f"{metric_title(metric)} {_number(cell)}"
    said = f"{_leading(block, leaders, of)}, {value} on {_rows(summary, block, cell)}"
    if floor := best.bars.get(metric):
        called = f"the best floor that sees as much, {floor}"
        owner = f"the difference of {best.method.name}" if len(leaders) > 1 else "its difference"
        said += f"; {_against(block, best.method.name, floor, metric, called, owner)}"
    yield f"{said}."
    others = [_seen_from(block, best.method.name, line.method.name, metric) for line in order[1:]]
    found = [pair for pair in others if pair is not None]
    if not found:
        return
    if any(_is_tested(pair) for pair in found):
        yield _tested(leaders[0] if len(leaders) > 1 else "It", found)
        return
    for pair in [pair for pair in found if pair.second not in leaders][:1]:
        yield (
            f"The difference to the next method, {pair.second}, is {_gap(pair)}; one seed is not tested, because "
            "another might change the order."
        )


def _leading(block: Block, leaders: list[str], of: str) -> str:
    """Returns who has the best value, all of them where several have the same; `of` is empty for an only method."""
    if not of:
        return f"{block.titled(leaders[0])} is the only method"
    if len(leaders) == 1:
        return f"{block.titled(leaders[0])} has {of}"
    return f"{block.titled(', '.join(leaders[:-1]))} and {leaders[-1]} have {of}"


def _rows(summary: Summary, block: Block, cell: Cell) -> str:
    """Returns what a value was measured on: the rows of the set, or of the slice that the tables begin with."""
    whole = summary.slices[0]
    if whole == WHOLE:
        return f"{block.n_rows:,} {summary.split} rows of {block.n_users:,} users"
    return f"the {whole} {summary.split} rows (n={cell.n:,})"


def _tested(name: str, found: list[Difference]) -> str:
    """Returns from which others a method differs, and which of them one seed leaves untested."""
    worse = [pair.second for pair in found if pair.significant]
    open_ = [pair.second for pair in found if _is_tested(pair) and not pair.significant]
    alone = [pair.second for pair in found if not _is_tested(pair)]
    said = f"{name} differs significantly from {', '.join(worse) if worse else 'no other that is tested'}"
    if not worse and not alone:
        said = f"{name} differs significantly from no other"
    if worse and open_:
        said += f", and not from {', '.join(open_)}"
    said += " (paired test, Holm's correction)"
    return f"{said}; with one seed not tested: {', '.join(alone)}." if alone else f"{said}."


def _against(block: Block, name: str, other: str, metric: str, called: str, owner: str) -> str:
    """Returns what is known of a method's difference to a floor; `owner` begins the sentence."""
    pair = _seen_from(block, name, other, metric)
    if pair is None:
        return f"{called}, is not compared with it"
    if not _is_tested(pair):
        return f"{owner} to {called}, is {_gap(pair)} over users, and one seed is not tested"
    if not pair.significant:
        return f"{owner} to {called}, is {_gap(pair)}, not significant (p {pair.p_holm:.2g})"
    return f"{owner} to {called}, is {_gap(pair)} (p {pair.p_holm:.2g})"


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
                _rows(summary, block, lines[0].cells[summary.slices[0]][metric]),
            )
            for block in summary.blocks
            for metric in summary.metrics[:OVERVIEW_METRICS]
            if (lines := ranked(summary, block, metric))
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
