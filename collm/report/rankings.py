"""Ranked lists in a report: a block of methods per kind of candidates, measured as rows are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from collm.contracts.metric import ScoredRows
from collm.report.collect import ReportRun
from collm.report.methods import Method, RowSet, together
from collm.rescore import Measure
from collm.stages.ranked_lists import sliced_lists

OWN = ""  # the run's own method in `ranking.parquet`
LIST_KEYS = ("user", "item", "candidates", "user_train_rows", "item_train_rows")


@dataclass(frozen=True)
class ListMeasure(Measure):
    """How ranked lists become numbers."""

    def sliced(self, frame: pl.DataFrame) -> dict[str, ScoredRows]:
        """Returns the lists of every slice."""
        return dict(sliced_lists(frame, self.slices, warm=self.warm, cold=self.cold))


@dataclass(frozen=True)
class Lists:
    """Methods that ranked the same positives among as many candidates.

    Attributes:
        protocol: Name of the candidates.
        rows: The methods.
        measure: How they are measured.
    """

    protocol: str
    rows: RowSet
    measure: ListMeasure


def ranked_lists(runs: Sequence[ReportRun], split: str, measure: Measure) -> list[Lists]:
    """Returns what the runs of a report ranked of a split, each kind of candidates by itself.

    Args:
        runs: The runs.
        split: The split that is shown.
        measure: Slice rules, resamples, metrics of lists.
    """
    found: list[Lists] = []
    for protocol in dict.fromkeys(name for run in runs for name in run.results.ranking_facts.get(split, {})):
        shown = pl.col("split").eq(split) & pl.col("protocol").eq(protocol)
        tables = [(run, run.ranking.filter(shown)) for run in runs if run.ranking is not None]
        ranked = [(run, table) for run, table in tables if table.filter(pl.col("method") == OWN).height]
        for members in _alike(ranked):
            kept = min(run.results.ranking_facts[split][protocol].depth for run, _ in members)
            # What reads more items than a run kept would be of shorter lists.
            metrics = {n: each for n, each in measure.list_metrics.items() if getattr(each, "depth", 0) <= kept}
            own = ListMeasure(measure.warm, measure.cold, measure.slices, metrics, measure.resamples)
            found.append(Lists(protocol, _row_set(members), own))
    return found


Ranked = tuple[ReportRun, pl.DataFrame]


def _alike(ranked: Sequence[Ranked]) -> list[list[Ranked]]:
    """Puts runs together that ranked the same positives among as many candidates, with the same floors."""
    sets: list[list[Ranked]] = []
    for run, table in ranked:
        same = next((members for members in sets if _same(members[0][1], table)), None)
        if same is None:
            sets.append([(run, table)])
        else:
            same.append((run, table))
    return sets


def _same(first: pl.DataFrame, second: pl.DataFrame) -> bool:
    def asked(table: pl.DataFrame) -> pl.DataFrame:
        own = table.filter((pl.col("method") == OWN) & (pl.col("label") == 1))
        return own.select(LIST_KEYS).sort("user", "item")

    def floors(table: pl.DataFrame) -> pl.DataFrame:
        return table.filter(pl.col("method") != OWN).select("method", "user", "item", "rank").sort(pl.all())

    return bool(asked(first).equals(asked(second)) and floors(first).equals(floors(second)))


def _row_set(members: Sequence[Ranked]) -> RowSet:
    table = members[0][1]
    names = table.filter(pl.col("method") != OWN)["method"].unique(maintain_order=True).to_list()
    floors = [Method(name, True, (), (), (table.filter(pl.col("method") == name),)) for name in sorted(names)]
    own = [(run, found.filter(pl.col("method") == OWN)) for run, found in members]
    positives = own[0][1].filter(pl.col("label") == 1)
    return RowSet((*floors, *together(own)), positives.height, positives["user"].n_unique())
