"""The terminal table after `collm run`: stored numbers, floors first; needs no scores and computes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.text import Text as RichText

from collm.data.prepared_files import OF_LIMIT
from collm.report.grid import (
    Cell,
    Grid,
    Text,
    bullets,
    cell_text,
    default_split,
    metric_title,
    ranked_split,
    rich_table,
    sizes,
)
from collm.runs.records import FloorMetrics, MetricRecord, RunOutcome, SliceMetrics

Cells = Mapping[str, Cell]


def results_table(runs: Sequence[RunOutcome], *, split: str | None = None) -> list[RenderableType]:
    """Returns what a reader sees of some runs: a table per slice, the notes, the run folders.

    Args:
        runs: Finished runs.
        split: Split to show; default: `test`, or the first one that the runs have.
    """
    if not runs:
        return [RichText("no runs")]
    chosen = split or default_split(run.results.metrics for run in runs)
    ranked = ranked_split((run.results for run in runs), chosen)
    parts = [_Part(chosen), *(_Part(ranked, name) for name in _protocols(runs, ranked))]
    tables: list[RenderableType] = [
        rich_table(_slice_grid(runs, part, name)) for part in parts for name in part.slices(runs)
    ]
    return [*tables, *bullets("notes", _notes(runs, chosen)), *bullets("run folders", _folders(runs))]


def _protocols(runs: Sequence[RunOutcome], split: str) -> list[str]:
    """Returns the kinds of candidates that runs ranked."""
    return list(dict.fromkeys(name for run in runs for name in run.results.ranking.get(split, {})))


@dataclass(frozen=True)
class _Part:
    """What a group of tables is about: labelled rows, or ranked lists.

    Attributes:
        split: The split.
        candidates: What the lists are ranked among; empty for labelled rows.
    """

    split: str
    candidates: str = ""

    def metrics(self, run: RunOutcome) -> SliceMetrics:
        """Returns slice -> metric -> record of a run."""
        of = run.results
        return (
            of.ranking.get(self.split, {}).get(self.candidates, {})
            if self.candidates
            else of.metrics.get(self.split, {})
        )

    def floors(self, run: RunOutcome) -> FloorMetrics:
        """Returns slice -> floor -> metric -> record of a run."""
        of = run.results
        found = (
            of.ranking_floors.get(self.split, {}).get(self.candidates) if self.candidates else of.floors.get(self.split)
        )
        return found or {}

    def slices(self, runs: Sequence[RunOutcome]) -> list[str]:
        """Returns the slices that runs have."""
        return list(dict.fromkeys(name for run in runs for name in self.metrics(run)))

    def title(self, slice_name: str) -> str:
        """Returns the title of a table."""
        if not self.candidates:
            return f"{self.split}, {slice_name} rows"
        of = "all items" if self.candidates == "all" else f"candidates: {self.candidates}"
        return f"{self.split}, ranking, {of}, {slice_name} positives"


def _slice_grid(runs: Sequence[RunOutcome], part: _Part, slice_name: str) -> Grid:
    floors = list(_floor_rows(runs, part, slice_name))
    rows = [*floors, *_run_rows(runs, part, slice_name)]
    metrics = list(dict.fromkeys(metric for _, cells in rows for metric in cells))
    shared = _shared_sizes([cells for _, cells in rows])
    lines = []
    for label, cells in rows:
        shown = [Text(cell_text(cells[metric]) if metric in cells else "-") for metric in metrics]
        lines.append((Text(label), *shown, *(() if shared else (Text(sizes(cells)),))))
    return Grid(
        key=f"results-{slice_name}",
        title=part.title(slice_name) + (f" ({shared})" if shared else ""),
        header=("method", *map(metric_title, metrics), *(() if shared else ("n",))),
        rows=tuple(lines),
        dim=tuple(number < len(floors) for number in range(len(rows))),
        text_columns=frozenset({0} if shared else {0, 1 + len(metrics)}),
    )


def _floor_rows(runs: Sequence[RunOutcome], part: _Part, slice_name: str) -> Iterator[tuple[str, Cells]]:
    """Floors of the same data are the same numbers and are shown once; others carry the run that they belong to."""
    seen: dict[str, list[Cells]] = {}
    for run in runs:
        for name, records in part.floors(run).get(slice_name, {}).items():
            cells, others = _cells(records), seen.setdefault(name, [])
            if cells not in others:
                yield (name if not others else f"{name} (for {_label(run, runs)})"), cells
                others.append(cells)


def _run_rows(runs: Sequence[RunOutcome], part: _Part, slice_name: str) -> Iterator[tuple[str, Cells]]:
    for run in runs:
        records = part.metrics(run).get(slice_name)
        if records is not None:
            yield _label(run, runs), _cells(records)


def _cells(records: Mapping[str, MetricRecord]) -> Cells:
    return {
        metric: Cell(each.value, each.low, each.high, n=each.n, skipped=each.skipped, reason=each.reason or "")
        for metric, each in records.items()
    }


def _shared_sizes(rows: Sequence[Cells]) -> str:
    """Returns what the metrics of all rows average over, empty where rows differ in it."""
    merged: dict[str, Cell] = {}
    for cells in rows:
        for metric, cell in cells.items():
            first = merged.setdefault(metric, cell)
            if (first.n, first.skipped) != (cell.n, cell.skipped):
                return ""
    return sizes(merged)


def _label(run: RunOutcome, runs: Sequence[RunOutcome]) -> str:
    name = run.results.run
    alike = sum(other.results.run == name for other in runs)
    return f"{name} (seed {run.results.seed})" if alike > 1 else name


def _notes(runs: Sequence[RunOutcome], split: str) -> Iterator[str]:
    yield "[low, high]: 95% interval over users; the first rows are floors, which any method should beat"
    if left_out := [_label(run, runs) for run in runs if split not in run.results.metrics]:
        yield f"without {split} scores, so not in the tables of rows: {', '.join(left_out)}"
    yield from _drawn_rows(runs)
    for note in dict.fromkeys(note for run in runs for note in run.results.notes):
        owners = [_label(run, runs) for run in runs if note in run.results.notes]
        yield note if len(owners) == len(runs) else f"{', '.join(owners)}: {note}"
    seeds = {run.results.seed for run in runs}
    if len(seeds) == 1:
        yield f"one seed (n=1, seed {seeds.pop()}): the intervals do not cover what another seed would change"


def _drawn_rows(runs: Sequence[RunOutcome]) -> Iterator[str]:
    found: dict[str, list[str]] = {}
    scored: dict[str, set[int | None]] = {}
    for run in runs:
        for split in run.results.metrics:
            scored.setdefault(split, set()).add(run.results.counts.get(split))
        counts, full = run.results.counts, run.results.full_counts
        limited = [
            f"{split} {counts[split]:,} of {full[split]:,} rows"
            for split in ("train", "valid", "test")
            if split in counts and split in full and counts[split] != full[split]
        ]
        # What a run's own notes say of a limit is not said again.
        if limited and not any(note.startswith(OF_LIMIT) for note in run.results.notes):
            found.setdefault(f"drawn: {', '.join(limited)}", []).append(_label(run, runs))
    for sentence, owners in found.items():
        yield sentence if len(owners) == len(runs) else f"{', '.join(owners)}: {sentence}"
    if any(len(sizes) > 1 for sizes in scored.values()):
        yield "these runs scored different rows: do not compare their numbers; `collm report` shows each set apart"


def _folders(runs: Sequence[RunOutcome]) -> Iterator[str]:
    width = max(len(_label(run, runs)) for run in runs)
    for run in runs:
        seconds = sum(stage.seconds for stage in run.results.timing.values())
        cost = "finished before" if run.reused else f"{seconds:.1f} s"
        yield f"{_label(run, runs).ljust(width)}  {run.folder}  ({cost})"
