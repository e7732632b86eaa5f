"""The terminal table of finished runs: floors first, then methods; a table per slice, numbers with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

SPLIT_ORDER = ("test", "valid", "train")
METRIC_TITLES = {"auc": "AUC", "uauc": "uAUC", "ndcg": "NDCG", "gauc": "GAUC"}

Metrics = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        label: Name of the floor or run.
        floor: Whether it is a floor.
        metrics: Metric -> record of one slice.
    """

    label: str
    floor: bool
    metrics: Metrics


def results_table(results: Sequence[Mapping[str, Any]], *, split: str | None = None) -> list[RenderableType]:
    """Returns what a reader sees of some runs: a table per slice, the notes, the run folders.

    Args:
        results: Contents of `results.json`; `run_dir` is shown where it is there.
        split: Split to show; default: `test`, or the first one that the runs have.

    Returns:
        Renderables in reading order; readable from 100 columns on.
    """
    if not results:
        return [Text("no runs")]
    chosen = split or _first_split(results)
    slices = _in_order(part for result in results for part in result["metrics"].get(chosen, {}))
    shown: list[RenderableType] = [_slice_table(results, chosen, part) for part in slices]
    return [*shown, *_bullets("notes", list(_notes(results))), *_bullets("run folders", list(_folders(results)))]


def _first_split(results: Sequence[Mapping[str, Any]]) -> str:
    present = _in_order(split for result in results for split in result["metrics"])
    return next((split for split in SPLIT_ORDER if split in present), present[0] if present else "test")


def _slice_table(results: Sequence[Mapping[str, Any]], split: str, part: str) -> Table:
    rows = [*_floor_rows(results, split, part), *_run_rows(results, split, part)]
    metrics = _in_order(name for row in rows for name in row.metrics)
    sizes = [_sizes(row.metrics) for row in rows]
    shared = _shared_sizes(rows)
    title = f"{split}, {part} rows" + (f" ({shared})" if shared else "")
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("method", overflow="fold", min_width=12)
    for name in metrics:
        table.add_column(METRIC_TITLES.get(name, name), justify="right", no_wrap=True, overflow="fold")
    if not shared:
        table.add_column("n", overflow="fold", min_width=12)
    for row, size in zip(rows, sizes, strict=True):
        cells = [_cell(row.metrics.get(name)) for name in metrics]
        table.add_row(Text(row.label), *cells, *([] if shared else [size]), style="dim" if row.floor else None)
    return table


def _floor_rows(results: Sequence[Mapping[str, Any]], split: str, part: str) -> Iterator[Row]:
    """Floors of the same data are the same numbers and are shown once; others carry the run that they belong to."""
    seen: dict[str, list[Metrics]] = {}
    for result in results:
        floors = result.get("floors", {}).get(split, {}).get(part, {})
        for name, metrics in floors.items():
            others = seen.setdefault(name, [])
            if metrics in others:
                continue
            label = name if not others else f"{name} (for {_label(result, results)})"
            others.append(metrics)
            yield Row(label, floor=True, metrics=metrics)


def _run_rows(results: Sequence[Mapping[str, Any]], split: str, part: str) -> Iterator[Row]:
    for result in results:
        metrics = result["metrics"].get(split, {}).get(part)
        if metrics is not None:
            yield Row(_label(result, results), floor=False, metrics=metrics)


def _label(result: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> str:
    alike = [other for other in results if other["run"] == result["run"]]
    return f"{result['run']} (seed {result['seed']})" if len(alike) > 1 else str(result["run"])


def _cell(record: Mapping[str, Any] | None) -> Text:
    if record is None:
        return Text("-")
    if record.get("value") is None:
        return Text(record.get("reason") or "no usable rows")
    interval = ""
    if record.get("low") is not None and record.get("high") is not None:
        interval = f" [{record['low']:.3f}, {record['high']:.3f}]"
    return Text(f"{record['value']:.4f}{interval}")


def _shared_sizes(rows: Sequence[Row]) -> str:
    """What the metrics of all rows average over, "" where rows differ in it."""
    merged: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        for name, record in row.metrics.items():
            if _size(merged.setdefault(name, record)) != _size(record):
                return ""
    return _sizes(merged)


def _sizes(metrics: Metrics) -> str:
    """What each metric averages over, equal ones together, with what was left out."""
    groups: dict[str, list[str]] = {}
    for name, record in metrics.items():
        groups.setdefault(_size(record), []).append(METRIC_TITLES.get(name, name))
    return "; ".join(f"{'/'.join(names)} {size}" for size, names in groups.items())


def _size(record: Mapping[str, Any]) -> str:
    skipped = ", ".join(f"{count:,} {reason}" for reason, count in sorted(record.get("skipped", {}).items()))
    return f"n={record['n']:,}" + (f", skipped {skipped}" if skipped else "")


def _notes(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "[low, high]: 95% interval over users; the first rows are floors, which any method should beat"
    yield from _drawn_rows(results)
    for note in _in_order(note for result in results for note in result.get("notes", ())):
        owners = [_label(result, results) for result in results if note in result.get("notes", ())]
        yield note if len(owners) == len(results) else f"{', '.join(owners)}: {note}"
    if len({result["seed"] for result in results}) == 1:
        yield f"one seed (n=1, seed {results[0]['seed']}): the intervals do not cover what another seed would change"


def _drawn_rows(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    found: dict[str, list[str]] = {}
    for result in results:
        counts, full = result.get("counts", {}), result.get("full_counts", {})
        parts = [
            f"{split} {counts[split]:,} of {full[split]:,} rows"
            for split in ("train", "valid", "test")
            if split in counts and split in full and counts[split] != full[split]
        ]
        if parts:
            found.setdefault(f"drawn by whole users: {', '.join(parts)}", []).append(_label(result, results))
    for sentence, owners in found.items():
        yield sentence if len(found) == 1 else f"{sentence} ({', '.join(owners)})"
    if len(found) > 1:
        yield "these runs scored different rows: do not compare their numbers; `collm report` shows each set apart"


def _folders(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    width = max(len(_label(result, results)) for result in results)
    for result in results:
        if "run_dir" in result:
            seconds = sum(float(stage.get("seconds", 0.0)) for stage in result.get("timing", {}).values())
            cost = "finished before" if result.get("reused") else f"{seconds:.1f} s"
            yield f"{_label(result, results).ljust(width)}  {result['run_dir']}  ({cost})"


def _bullets(title: str, lines: Sequence[str]) -> list[RenderableType]:
    if not lines:
        return []
    return [Text(f"{title}:", style="bold"), *(Text(f"  {line}", overflow="fold") for line in lines)]


def _in_order(names: Any) -> list[str]:
    return list(dict.fromkeys(names))
