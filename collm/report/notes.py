"""Sentences of a report that a reader needs before comparing numbers: rows, seeds, floors, notes of the runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from collm.report.collect import ReportRun
from collm.report.methods import ENCODER, MEAN
from collm.report.paper import paper_dataset
from collm.report.records import Block, Line


def report_notes(blocks: Sequence[Block], split: str) -> list[str]:
    """Returns what a reader must know before comparing numbers: rows, seeds, floors, and the notes of the runs.

    Args:
        blocks: The blocks of the report.
        split: The split that is shown.
    """
    lines = [line for block in blocks for line in block.methods]
    return list(
        dict.fromkeys(
            [*_rows(blocks, split), *_paper(blocks, split), *_seeds(lines), *_floors(blocks), *_of_runs(lines)]
        )
    )


def _of_runs(lines: Sequence[Line]) -> Iterator[str]:
    """Yields the notes of the runs, each with the methods that it is about where it is not about all."""
    # Seeds of a method may have scored different rows, and are then in several blocks.
    runs_of: dict[str, list[ReportRun]] = {}
    for line in lines:
        runs_of.setdefault(line.method.name, []).extend(line.method.runs)
    for note in dict.fromkeys(note for runs in runs_of.values() for run in runs for note in run.results.notes):
        owners = []
        for name, runs in runs_of.items():
            seeds = sorted(run.seed for run in runs if note in run.results.notes)
            if len(seeds) == len(runs):
                owners.append(name)
            elif seeds:
                owners.append(f"{name} (seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))})")
        yield note if owners == list(runs_of) else f"{', '.join(owners)}: {note}"


def _rows(blocks: Sequence[Block], split: str) -> Iterator[str]:
    if len(blocks) < 2:
        return
    shown = "; ".join(f"{block.label} = {_scored_by(block, split)}" for block in blocks)
    yield (
        f"The runs have {len(blocks)} sets of rows: {shown}. Each has its own tables and floors; nothing is averaged, "
        "compared or marked across them."
    )
    seeds: dict[str, list[int]] = {}
    for line in (line for block in blocks for line in block.methods):
        seeds.setdefault(line.method.name, []).extend(line.method.seeds)
    shared = {name for name in seeds if sum(name in {line.method.name for line in each.methods} for each in blocks) > 1}
    twice = sorted(name for name in shared if len(set(seeds[name])) < len(seeds[name]))
    if twice:
        yield (
            f"{', '.join(twice)}: runs of one seed are in several sets, so their data or settings differ; compare them "
            "with `collm runs diff`."
        )
    if split_up := sorted(shared - set(twice)):
        yield (
            f"Seeds of {', '.join(split_up)} scored different rows and are not averaged. Give them the same rows: set "
            "`dataset.limit.seed` (one draw for all seeds) and run again."
        )


def _scored_by(block: Block, split: str) -> str:
    runs = ", ".join(f"{line.method.name} (seed {' '.join(map(str, line.method.seeds))})" for line in block.methods)
    return f"{block.n_rows:,} {split} rows of {block.n_users:,} users, scored by {runs}"


def _paper(blocks: Sequence[Block], split: str) -> Iterator[str]:
    """Says why the paper's numbers, which are of test rows, are not shown where only some of its rows were taken."""
    for block in blocks if split == "test" else ():
        results = [run.results for line in block.methods for run in line.method.runs]
        drawn = [each for each in results if paper_dataset(each.full_counts) and not each.is_whole]
        if block.paper_dataset is None and drawn:
            counts, full = drawn[0].counts, drawn[0].full_counts
            parts = [
                f"{counts[name]:,} of {full[name]:,} {name} rows"
                for name in ("train", "valid", "test")
                if counts.get(name) != full.get(name)
            ]
            yield f"{block.titled('The paper')}: its numbers are not shown, because these are on {', '.join(parts)}."


def _seeds(lines: Sequence[Line]) -> Iterator[str]:
    alone = list(dict.fromkeys(line.method.name for line in lines if not line.method.is_replicated))
    if alone:
        every = len(alone) == len({line.method.name for line in lines})
        which = "every method" if every else ", ".join(alone)
        yield (
            f"n=1: {which} ran with one seed: intervals cover the choice of users and not what another seed would "
            "change, so no p-value is given and nothing is bold."
        )
    same = [line.method.name for line in lines if line.method.is_deterministic]
    if same:
        yield f"All seeds gave the same scores: {', '.join(dict.fromkeys(same))}."
    made = list(dict.fromkeys(line.fidelity for line in lines if line.fidelity not in ("", ENCODER, MEAN)))
    if len(made) > 1:
        yield (
            "Language-model rows were trained differently (column 'made with'): backbone, training rows or steps; do "
            "not read their differences as differences between methods."
        )


def _floors(blocks: Sequence[Block]) -> Iterator[str]:
    for block in blocks:
        below = [line.method.name for line in block.methods if line.above_floor.get("auc") is False]
        if below:
            yield f"{block.titled('Not above the best floor in AUC')}: {', '.join(below)}."


def list_notes(blocks: Sequence[Block], protocol: str) -> Iterator[str]:
    """Yields what sets of ranked lists there are where runs did not rank the same.

    Args:
        blocks: The sets.
        protocol: Name of the candidates.
    """
    if len(blocks) < 2:
        return
    shown = "; ".join(
        f"{block.label} = {block.n_rows:,} positives of {block.n_users:,} users, ranked by "
        + ", ".join(dict.fromkeys(line.method.name for line in block.methods))
        for block in blocks
    )
    yield (
        f"Ranking, candidates {protocol}: the runs have {len(blocks)} sets of lists, which differ in users, positives, "
        f"candidates, floors or the number of items that were kept: {shown}. Nothing is compared across them."
    )
