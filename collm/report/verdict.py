"""What a report shows, in words: the best method of a set of rows, held against the best floor and the next method."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from collm.report.compare import Difference
from collm.report.grid import Cell, metric_title
from collm.report.records import Block, Line, Summary


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
    if floor := block.best_floors.get(metric):
        said += f"; {_against(block, best.method.name, floor, metric, f'the best floor, {floor}')}"
    yield f"{said}."
    others = [_Pair.of(block, best.method.name, line.method.name, metric) for line in order[1:]]
    found = [pair for pair in others if pair is not None]
    if not found:
        return
    if not any(pair.is_tested for pair in found):
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
    pair = _Pair.of(block, name, other, metric)
    if pair is None:
        return f"{called} is not compared with it"
    if not pair.is_tested:
        return f"its difference to {called}, is {_gap(pair)} over users, and one seed is not tested"
    if not pair.significant:
        return f"its difference to {called}, is {_gap(pair)}, not significant (p {pair.p:.2g})"
    return f"its difference to {called}, is {_gap(pair)} (p {pair.p:.2g})"


@dataclass(frozen=True)
class _Pair:
    """A comparison seen from its first method.

    Attributes:
        second: The other method.
        value: First minus second.
        low: Lower end of the 95% interval.
        high: Upper end.
        p: After Holm's correction; NaN where there is none.
    """

    second: str
    value: float
    low: float
    high: float
    p: float

    @classmethod
    def of(cls, block: Block, first: str, second: str, metric: str) -> _Pair | None:
        """Returns the comparison of two methods, turned around where it is stored the other way; None without one."""
        for each in block.comparisons:
            if each.metric == metric and {each.first, each.second} == {first, second}:
                return cls._seen(each, turned=each.first != first, second=second)
        return None

    @classmethod
    def _seen(cls, each: Difference, *, turned: bool, second: str) -> _Pair:
        if turned:
            return cls(second, -each.value, -each.high, -each.low, each.p_holm)
        return cls(second, each.value, each.low, each.high, each.p_holm)

    @property
    def is_tested(self) -> bool:
        """Whether there is a p-value."""
        return not math.isnan(self.p)

    @property
    def significant(self) -> bool:
        """Whether the corrected p-value is under 5%."""
        return self.p < 0.05


def _number(cell: Cell) -> str:
    between = "" if cell.low is None or cell.high is None else f" [{cell.low:.3f}, {cell.high:.3f}]"
    return f"{cell.value:.4f}{between}"


def _gap(pair: _Pair) -> str:
    return f"{pair.value:+.4f} [{pair.low:.3f}, {pair.high:.3f}]"
