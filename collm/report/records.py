"""What a report says, as plain data: blocks of rows, methods with cells, comparisons, the paper's numbers, notes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from collm.report.collect import MissingRun, ReportRun
from collm.report.compare import Difference
from collm.report.deviations import Deviation
from collm.report.grid import Cell
from collm.report.methods import Method
from collm.report.windows import WindowLine


@dataclass(frozen=True)
class Line:
    """One method in every table of a report.

    Attributes:
        method: The method.
        cells: Slice -> metric -> cell.
        fidelity: What its numbers were made with; empty for floors.
        paper: Metric -> the paper's value on all test rows.
        bars: Metric -> name of the best floor on all rows that sees as much as it does.
        above_floor: Metric -> whether it beats that floor; None where there is no floor.
        departures: Where its runs depart from the paper.
        like_bias_floor: Spearman's rank correlation of its scores with those of the floor `bias-logistic`, in [-1, 1];
            None for a language model or without that floor.
    """

    method: Method
    cells: Mapping[str, Mapping[str, Cell]]
    fidelity: str = ""
    paper: Mapping[str, float] = field(default_factory=dict)
    bars: Mapping[str, str] = field(default_factory=dict)
    above_floor: Mapping[str, bool | None] = field(default_factory=dict)
    departures: tuple[Deviation, ...] = ()
    like_bias_floor: float | None = None


@dataclass(frozen=True)
class Block:
    """Everything about one set of rows. Nothing is averaged, compared or marked across blocks.

    Attributes:
        label: `A`, `B`, ...; empty where all runs scored the same rows.
        n_rows: Scored rows.
        n_users: Users of them.
        lines: Floors, then methods.
        comparisons: Pairs of methods on all rows.
        improvements: (method, baseline) -> relative improvement as the paper defines it.
        paper_dataset: The paper's name of the data, None where these are other rows than the paper's.
        best_floors: Metric -> name of the best floor on all rows.
        windows: Methods of prequential evaluation by window, and over all windows.
    """

    label: str
    n_rows: int
    n_users: int
    lines: tuple[Line, ...]
    comparisons: tuple[Difference, ...]
    improvements: Mapping[tuple[str, str], float]
    paper_dataset: str | None
    best_floors: Mapping[str, str]
    windows: tuple[WindowLine, ...] = ()

    @property
    def methods(self) -> tuple[Line, ...]:
        """Returns the lines that are not floors."""
        return tuple(line for line in self.lines if not line.method.floor)

    def titled(self, name: str) -> str:
        """Returns a name with the block's label where there are several blocks."""
        return f"{name} [rows {self.label}]" if self.label else name


@dataclass(frozen=True)
class Summary:
    """Everything that a report shows.

    Attributes:
        title: Name of the suite or runs.
        split: Split of the tables.
        slices: Slices, `all` first where it is measured.
        metrics: Metrics in order.
        higher_is_better: Metric -> direction.
        blocks: One per set of rows.
        missing: Runs that are not finished.
        notes: Sentences that belong to every number.
        protocol: Rules behind the numbers.
        candidates: What the lists are ranked among, of a summary of ranked lists; empty for labelled rows.
        rankings: Summaries of the ranked lists of the same runs.
    """

    title: str
    split: str
    slices: tuple[str, ...]
    metrics: tuple[str, ...]
    higher_is_better: Mapping[str, bool]
    blocks: tuple[Block, ...]
    missing: tuple[MissingRun, ...]
    notes: tuple[str, ...]
    protocol: Mapping[str, str]
    candidates: str = ""
    rankings: tuple[Summary, ...] = ()

    @property
    def lines(self) -> tuple[Line, ...]:
        """Returns the lines of all blocks."""
        return tuple(line for block in self.blocks for line in block.lines)

    @property
    def methods(self) -> tuple[tuple[str, Line], ...]:
        """Returns the methods of all blocks under names that tell the blocks apart."""
        return tuple((block.titled(line.method.name), line) for block in self.blocks for line in block.methods)

    @property
    def comparisons(self) -> tuple[Difference, ...]:
        """Returns the comparisons of all blocks, each within its rows."""
        return tuple(each for block in self.blocks for each in block.comparisons)

    @property
    def runs(self) -> list[ReportRun]:
        """Returns the runs of all methods."""
        return [run for line in self.lines for run in line.method.runs]
