"""What a report says, as plain data: methods with cells, comparisons, the paper's numbers, notes. Renderers show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from collm.errors import RunError, UsageError
from collm.report.collect import Collected, MissingRun, ReportRun
from collm.report.compare import Difference, Draws, compare_all, relative_improvement
from collm.report.methods import Cell, Method, fidelity, group_methods, measured_cells
from collm.report.paper import paper_dataset, paper_values
from collm.rescore import Measure, same_rows

SPLIT_ORDER = ("test", "valid", "train")
COMPARED_METRICS = ("auc", "uauc")


@dataclass(frozen=True)
class Line:
    """One method in every table of a report.

    Attributes:
        method: The method.
        cells: Slice -> metric -> cell.
        fidelity: What its numbers were made with; empty for floors.
        paper: Metric -> the paper's value on all test rows.
        above_floor: Metric -> whether it beats the best floor on all rows; None where there is no floor.
    """

    method: Method
    cells: Mapping[str, Mapping[str, Cell]]
    fidelity: str = ""
    paper: Mapping[str, float] = field(default_factory=dict)
    above_floor: Mapping[str, bool | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """Everything that a report shows.

    Attributes:
        title: Name of the suite or runs.
        split: Split of the tables.
        slices: Slices, `all` first where it is measured.
        metrics: Metrics in order.
        higher_is_better: Metric -> direction.
        lines: Floors, then methods.
        comparisons: Pairs of methods on all rows.
        improvements: (method, baseline) -> relative improvement as the paper defines it.
        paper_dataset: The paper's name of the data, None where it is other data.
        best_floors: Metric -> name of the best floor on all rows.
        missing: Runs that are not finished.
        notes: Sentences that belong to every number.
        protocol: Rules behind the numbers.
    """

    title: str
    split: str
    slices: tuple[str, ...]
    metrics: tuple[str, ...]
    higher_is_better: Mapping[str, bool]
    lines: tuple[Line, ...]
    comparisons: tuple[Difference, ...]
    improvements: Mapping[tuple[str, str], float]
    paper_dataset: str | None
    best_floors: Mapping[str, str]
    missing: tuple[MissingRun, ...]
    notes: tuple[str, ...]
    protocol: Mapping[str, str]

    @property
    def runs(self) -> list[ReportRun]:
        """Returns the runs of all methods."""
        return [run for line in self.lines for run in line.method.runs]


def summarise(collected: Collected, measure: Measure, *, split: str | None = None) -> Summary:
    """Measures all methods of a report from their scores.

    Args:
        collected: The runs.
        measure: Slice rules, metrics and resamples.
        split: Split to show; default `test`, else the first that the runs have.

    Returns:
        The summary.

    Raises:
        UsageError: If no run has scores of the split.
    """
    chosen = split or _default_split(collected.runs)
    methods, notes = group_methods(collected.runs, chosen)
    if not methods:
        known = sorted({name for run in collected.runs for name in run.results["metrics"]})
        raise UsageError(f"no run has {chosen} scores; the runs have {', '.join(known)}")
    measured = [(method, *measured_cells(method, measure)) for method in methods]
    whole = measure.slices[0]
    floors = _best_floors(measured, measure, whole)
    online = _online_floors(collected.runs)
    static = _best_floors(measured, measure, whole, leave_out=online)
    dataset = paper_dataset(collected.runs[0].results.get("full_counts", {})) if chosen == "test" else None
    lines = tuple(
        Line(method, cells)
        if method.floor
        else Line(
            method,
            cells,
            fidelity=" | ".join(dict.fromkeys(map(fidelity, method.runs))),
            paper=paper_values(method.name, dataset, title=collected.title) if dataset else {},
            # A method that knows training rows alone is not asked to beat a floor that knows later labels.
            above_floor=_above(cells[whole], floors if _sees_earlier_rows(method) else static, measure),
        )
        for method, cells, _ in measured
    )
    bars = {name for name, _ in (*floors.values(), *static.values())}
    comparisons, complaints = _comparisons(measured, whole, bars)
    return Summary(
        title=collected.title,
        split=chosen,
        slices=tuple(measure.slices),
        metrics=tuple(measure.metrics),
        higher_is_better={name: metric.higher_is_better for name, metric in measure.metrics.items()},
        lines=lines,
        comparisons=tuple(comparisons),
        improvements=_improvements(lines, whole),
        paper_dataset=dataset,
        best_floors={metric: name for metric, (name, _) in floors.items()},
        missing=collected.missing,
        notes=(*notes, *complaints, *_notes(lines)),
        protocol=_protocol(collected.runs, measure),
    )


Measured = tuple[Method, dict[str, dict[str, Cell]], dict[str, dict[str, Draws]]]


def _default_split(runs: Sequence[ReportRun]) -> str:
    present = {name for run in runs for name in run.results["metrics"]}
    return next((name for name in SPLIT_ORDER if name in present), "test")


def _best_floors(
    measured: Sequence[Measured], measure: Measure, part: str, *, leave_out: frozenset[str] = frozenset()
) -> dict[str, tuple[str, float]]:
    """Returns metric -> name and value of the best floor, of those that are not left out."""
    best: dict[str, tuple[str, float]] = {}
    for metric, definition in measure.metrics.items():
        sign = 1.0 if definition.higher_is_better else -1.0
        for method, cells, _ in measured:
            value = cells[part][metric].value
            if not method.floor or method.name in leave_out or value is None:
                continue
            if metric not in best or sign * value > sign * best[metric][1]:
                best[metric] = (method.name, value)
    return best


def _online_floors(runs: Sequence[ReportRun]) -> frozenset[str]:
    """Floors that read labels of the evaluation period before the row."""
    needs = {name: each for run in runs for name, each in run.results.get("floor_needs", {}).items()}
    return frozenset(name for name, each in needs.items() if "earlier-labels" in each)


def _sees_earlier_rows(method: Method) -> bool:
    return any(run.results.get("protocol", {}).get("sees_earlier_rows", True) for run in method.runs)


def _above(
    cells: Mapping[str, Cell], floors: Mapping[str, tuple[str, float]], measure: Measure
) -> dict[str, bool | None]:
    above: dict[str, bool | None] = {}
    for metric, definition in measure.metrics.items():
        value = cells[metric].value
        if metric not in floors or value is None:
            above[metric] = None
        else:
            gap = value - floors[metric][1]
            above[metric] = gap > 0 if definition.higher_is_better else gap < 0
    return above


def _comparisons(measured: Sequence[Measured], whole: str, best: set[str]) -> tuple[list[Difference], list[str]]:
    """Compares all methods and the best floors with each other, where they scored the same rows."""
    compared = [each for each in measured if not each[0].floor or each[0].name in best]
    try:
        same_rows({f"{method.name} ({i})": frame for method, _, _ in compared for i, frame in enumerate(method.frames)})
    except RunError as error:
        return [], [f"methods are not compared with each other: {error}"]
    found: list[Difference] = []
    for metric in COMPARED_METRICS:
        draws = {method.name: drawn[whole][metric] for method, _, drawn in compared if metric in drawn[whole]}
        found.extend(compare_all(draws, metric))
    floors = {each[0].name for each in compared if each[0].floor}
    # A reader looks for the methods first; a stable sort keeps the order of metrics and methods otherwise.
    return sorted(found, key=lambda each: (each.first in floors) + (each.second in floors)), []


def _improvements(lines: Sequence[Line], whole: str) -> dict[tuple[str, str], float]:
    values = {
        line.method.name: {metric: cell.value for metric, cell in line.cells[whole].items() if cell.value is not None}
        for line in lines
    }
    methods = [line.method.name for line in lines if not line.method.floor]
    found: dict[tuple[str, str], float] = {}
    for method in methods:
        for baseline in values:
            if baseline == method:
                continue
            improvement = relative_improvement(values[method], values[baseline])
            if improvement is not None:
                found[method, baseline] = improvement
    return found


def _protocol(runs: Sequence[ReportRun], measure: Measure) -> dict[str, str]:
    recorded = [run.results.get("protocol", {}) for run in runs]

    def values(name: str) -> str:
        return " / ".join(dict.fromkeys(str(each.get(name, "unknown")) for each in recorded))

    return {
        "history visibility": values("visibility"),
        "ties in time": values("tie_rule"),
        "warm": measure.warm,
        "cold": measure.cold,
        "interval": f"95%, {measure.resamples} resamples of users",
    }


def _notes(lines: Sequence[Line]) -> list[str]:
    methods = [line for line in lines if not line.method.floor]
    notes: list[str] = []
    alone = [line.method.name for line in methods if len(line.method.seeds) == 1]
    if alone:
        which = "every method" if len(alone) == len(methods) else ", ".join(alone)
        notes.append(f"n=1: {which} ran with one seed; the interval does not cover what another seed would change")
    below = [line.method.name for line in methods if line.above_floor.get("auc") is False]
    if below:
        notes.append(f"not above the best floor in AUC: {', '.join(below)}")
    made = list(dict.fromkeys(line.fidelity for line in methods if line.fidelity not in ("", "no language model")))
    if len(made) > 1:
        notes.append("language-model rows differ in backbone, rows or steps (column 'made with'): read them apart")
    for run in (run for line in methods for run in line.method.runs):
        notes.extend(note for note in run.results.get("notes", ()) if note not in notes)
    return notes
