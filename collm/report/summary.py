"""Measures the runs of a report from their scores: blocks of rows, floors, comparisons, the paper's numbers, notes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import polars as pl

from collm.errors import UsageError
from collm.metrics.uncertainty import widest_gap
from collm.report.collect import Collected, ReportRun
from collm.report.compare import Difference, Draws, compare_all, relative_improvement
from collm.report.grid import Cell, default_split, ranked_split
from collm.report.methods import Method, RowSet, fidelity, group_rows, measured_cells
from collm.report.notes import list_notes, report_notes
from collm.report.paper import paper_dataset, paper_values
from collm.report.rankings import ranked_lists
from collm.report.records import Block, Line, Summary
from collm.report.windows import window_lines
from collm.rescore import Measure

COMPARED_METRICS = ("auc", "uauc")
BIAS_FLOOR = "bias-logistic"


def summarise(collected: Collected, measure: Measure, *, split: str | None = None, for_words: bool = False) -> Summary:
    """Measures all methods of a report from their scores and ranked lists.

    Args:
        collected: The runs.
        measure: Slice rules, metrics and resamples.
        split: Split to show; default `test`, else the first that the runs have.
        for_words: Whether to measure only what the sentences about methods need: one slice, and no ranked lists.

    Returns:
        The summary.

    Raises:
        UsageError: If no run has scores of the split.
    """
    chosen = split or default_split(run.results.metrics for run in collected.runs)
    sets, notes = group_rows(collected.runs, chosen)
    if not sets:
        known = sorted({name for run in collected.runs for name in run.results.metrics})
        raise UsageError(f"no run has {chosen} scores; the runs have {', '.join(known)}")
    labels = [_letters(number) for number in range(len(sets))] if len(sets) > 1 else [""]
    measure = _empty_slices_last(measure, sets)
    if for_words:
        measure = replace(measure, slices=measure.slices[:1])
    blocks = tuple(
        _block(rows, label, measure, collected, split=chosen) for rows, label in zip(sets, labels, strict=True)
    )
    rankings = () if for_words else tuple(_rankings(collected, measure, chosen))
    return Summary(
        title=collected.title,
        split=chosen,
        slices=tuple(measure.slices),
        metrics=tuple(measure.metrics),
        higher_is_better={name: metric.higher_is_better for name, metric in measure.metrics.items()},
        blocks=blocks,
        missing=collected.missing,
        notes=(
            *collected.notes,
            *notes,
            *report_notes(blocks, chosen),
            *(said for each in rankings for said in each.notes),
        ),
        protocol=_protocol(collected.runs, measure),
        rankings=rankings,
    )


def _empty_slices_last(measure: Measure, sets: Sequence[RowSet]) -> Measure:
    """Returns the measure with slices that have rows first: methods are compared on the first one."""
    sizes = [measure.sliced(rows.methods[0].frames[0]) for rows in sets]
    return replace(
        measure, slices=sorted(measure.slices, key=lambda name: all(len(each[name].label) == 0 for each in sizes))
    )


def _rankings(collected: Collected, measure: Measure, split: str) -> Iterator[Summary]:
    """Yields a summary per kind of candidates."""
    split = ranked_split((run.results for run in collected.runs), split)
    found = ranked_lists(collected.runs, split, measure)
    for protocol in dict.fromkeys(each.protocol for each in found):
        sets = [each for each in found if each.protocol == protocol]
        labels = [_letters(number) for number in range(len(sets))] if len(sets) > 1 else [""]
        slices = tuple(_empty_slices_last(sets[0].measure, [each.rows for each in sets]).slices)
        blocks = [
            _block(
                each.rows,
                label,
                replace(each.measure, slices=slices),
                collected,
                split="",
                compared=tuple(each.measure.metrics),
            )
            for each, label in zip(sets, labels, strict=True)
        ]
        metrics = {
            name: metric
            for name, metric in measure.list_metrics.items()
            if any(name in each.measure.metrics for each in sets)
        }
        yield Summary(
            title=collected.title,
            split=split,
            slices=slices,
            metrics=tuple(metrics),
            higher_is_better={name: metric.higher_is_better for name, metric in metrics.items()},
            blocks=tuple(blocks),
            missing=(),
            notes=tuple(list_notes(blocks, protocol)),
            protocol={},
            candidates=protocol,
        )


def _letters(number: int) -> str:
    """Returns A, B, ..., Z, AA, AB, ..."""
    letter = chr(ord("A") + number % 26)
    return letter if number < 26 else _letters(number // 26 - 1) + letter


def _block(
    rows: RowSet,
    label: str,
    measure: Measure,
    collected: Collected,
    *,
    split: str,
    compared: Sequence[str] = (),
) -> Block:
    measured = [(method, *measured_cells(method, measure)) for method in rows.methods]
    whole = measure.slices[0]
    floors = _best_floors(measured, measure, whole)
    static = _best_floors(measured, measure, whole, leave_out=_online_floors(rows.runs))
    dataset = _paper_rows(rows) if split == "test" else None
    named = {metric: name for metric, (name, _) in floors.items()}
    static_named = {metric: name for metric, (name, _) in static.items()}
    lines = tuple(
        Line(method, cells)
        if method.floor
        else Line(
            method,
            cells,
            fidelity=" | ".join(dict.fromkeys(map(fidelity, method.runs))),
            paper=paper_values(method.name, dataset, title=collected.title) if dataset else {},
            # A method that knows training rows alone is not asked to beat a floor that knows later labels.
            bars=named if _sees_earlier_rows(method) else static_named,
            above_floor=_above(cells[whole], floors if _sees_earlier_rows(method) else static, measure),
            departures=tuple(
                dict.fromkeys(each for run in method.runs for each in collected.departures.get(run.path, ()))
            ),
            like_bias_floor=_rank_correlation(method, rows),
        )
        for method, cells, _ in measured
    )
    bars = {name for name, _ in (*floors.values(), *static.values())}
    return Block(
        label=label,
        n_rows=rows.n_rows,
        n_users=rows.n_users,
        lines=lines,
        comparisons=tuple(_comparisons(measured, measure, bars, compared or _compared_metrics(measure))),
        improvements=_improvements(lines, whole),
        paper_dataset=dataset,
        best_floors=named,
        windows=window_lines(rows, measure) if split == "test" else (),
    )


def _rank_correlation(method: Method, rows: RowSet) -> float | None:
    """Returns how alike an encoder ranks the rows to the floor that has user and item biases alone."""
    floor = next((each for each in rows.methods if each.floor and each.name == BIAS_FLOOR), None)
    if floor is None or any(run.spec.get("backbone") or "ensemble" in run.spec for run in method.runs):
        return None
    if floor.frames[0].height != method.frames[0].height:
        return None
    pair = pl.DataFrame({"a": method.frames[0]["score"], "b": floor.frames[0]["score"]})
    found = pair.select(pl.corr("a", "b", method="spearman")).item()
    return None if found is None or found != found else float(found)


def _paper_rows(rows: RowSet) -> str | None:
    """Returns the paper's name of the data where every run has all rows of splits with the paper's counts."""
    names = {paper_dataset(run.results.counts) if run.results.is_whole else None for run in rows.runs}
    return names.pop() if len(names) == 1 else None


Measured = tuple[Method, dict[str, dict[str, Cell]], dict[str, dict[str, Draws]]]


def _best_floors(
    measured: Sequence[Measured], measure: Measure, slice_name: str, *, leave_out: frozenset[str] = frozenset()
) -> dict[str, tuple[str, float]]:
    """Returns metric -> name and value of the best floor, of those that are not left out."""
    best: dict[str, tuple[str, float]] = {}
    for metric, definition in measure.metrics.items():
        sign = 1.0 if definition.higher_is_better else -1.0
        for method, cells, _ in measured:
            value = cells[slice_name][metric].value
            if not method.floor or method.name in leave_out or value is None:
                continue
            if metric not in best or sign * value > sign * best[metric][1]:
                best[metric] = (method.name, value)
    return best


def _online_floors(runs: Sequence[ReportRun]) -> frozenset[str]:
    """Floors that read labels of the evaluation period before the row."""
    needs = {name: each for run in runs for name, each in run.results.floor_needs.items()}
    return frozenset(name for name, each in needs.items() if "earlier-labels" in each)


def _sees_earlier_rows(method: Method) -> bool:
    return any(run.results.protocol.sees_earlier_rows for run in method.runs)


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


def _compared_metrics(measure: Measure) -> list[str]:
    """Returns the metrics in which methods are compared: the paper's two, behind the first where that is another."""
    return list(dict.fromkeys([next(iter(measure.metrics)), *COMPARED_METRICS]))


def _comparisons(
    measured: Sequence[Measured], measure: Measure, best: set[str], metrics: Sequence[str]
) -> list[Difference]:
    """Compares all methods and the best floors of one set of rows with each other."""
    whole = measure.slices[0]
    compared = [each for each in measured if not each[0].floor or each[0].name in best]
    found: list[Difference] = []
    for metric in metrics:
        draws = {method.name: drawn[whole][metric] for method, _, drawn in compared if metric in drawn[whole]}
        if draws:
            found.extend(compare_all(draws, metric, widest=widest_gap(measure.metrics[metric])))
    floors = {each[0].name for each in compared if each[0].floor}
    # A reader looks for the methods first; a stable sort keeps the order of metrics and methods otherwise.
    return sorted(found, key=lambda each: (each.first in floors) + (each.second in floors))


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
    recorded = [run.results.protocol for run in runs]
    return {
        "history visibility": " / ".join(dict.fromkeys(each.visibility for each in recorded)),
        "ties in time": " / ".join(dict.fromkeys(each.tie_rule for each in recorded)),
        "warm": measure.warm,
        "cold": measure.cold,
        "interval": f"95%: users ({measure.resamples} resamples), and seeds where there are several",
    }
