"""Summaries: seeds together, floors, marks, the paper's numbers, protocols, refusals."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from report_fakes import WriteRun, scores
from sklearn.metrics import roc_auc_score

from collm.errors import RunError, UsageError
from collm.registry import Registry
from collm.report.collect import Collected, collect
from collm.report.paper import paper_dataset, paper_values
from collm.report.render import _terminal_columns
from collm.report.summary import Line, Summary, summarise
from collm.report.tables import Grid, Text, report_tables
from collm.rescore import Measure


def line(summary: Summary, name: str) -> Line:
    return next(each for each in summary.lines if each.method.name == name)


def gather(registry: Registry, *folders: Path) -> Collected:
    return collect(folders, runs_dir=Path("runs"), registry=registry, overrides=[], cwd=Path())


def test_seeds_of_a_method_make_one_line(write_run: WriteRun, registry: Registry, measure: Measure) -> None:
    folders = [write_run("mf", noise=0.5, seed=seed) for seed in (0, 1, 2)]
    summary = summarise(gather(registry, *folders, write_run("weak", noise=9.0)), measure)
    assert [each.method.name for each in summary.lines] == ["item-mean", "mf", "weak"]
    expected = [roc_auc_score(frame["label"], frame["score"]) for frame in (scores(0.5, seed) for seed in (0, 1, 2))]
    cell = line(summary, "mf").cells["all"]["auc"]
    assert cell.value == pytest.approx(np.mean(expected))
    assert (cell.smallest, cell.largest) == (pytest.approx(min(expected)), pytest.approx(max(expected)))
    assert cell.low is not None
    assert cell.low < cell.value
    assert any(note.startswith("n=1: weak ran with one seed") for note in summary.notes)


def test_one_seed_repeats_the_recorded_interval(write_run: WriteRun, registry: Registry, measure: Measure) -> None:
    collected = gather(registry, write_run("mf"))
    recorded = collected.runs[0].results["metrics"]["test"]
    summary = summarise(collected, measure)
    for part in ("all", "warm", "cold"):
        for metric in ("auc", "uauc", "ndcg"):
            cell = line(summary, "mf").cells[part][metric]
            assert (cell.value, cell.low, cell.high) == tuple(
                recorded[part][metric][k] for k in ("value", "low", "high")
            )


def test_floors_and_marks(write_run: WriteRun, registry: Registry, measure: Measure) -> None:
    good, bad = (
        write_run("good", noise=0.3),
        write_run("bad", frame=scores(1.0).with_columns(score=1 - pl.col("score"))),
    )
    summary = summarise(gather(registry, good, bad), measure)
    assert summary.best_floors == {"auc": "item-mean", "uauc": "item-mean", "ndcg": "item-mean"}
    assert line(summary, "good").above_floor["auc"] is True
    assert line(summary, "bad").above_floor["auc"] is False
    assert "not above the best floor in AUC: bad" in summary.notes
    assert {(each.first, each.second) for each in summary.comparisons} == {
        ("item-mean", "good"),
        ("item-mean", "bad"),
        ("good", "bad"),
    }
    assert all(each.significant for each in summary.comparisons if each.first == "good")


def test_other_rows_are_not_compared(write_run: WriteRun, registry: Registry, measure: Measure) -> None:
    short = write_run("short", frame=scores(1.0).head(400))
    summary = summarise(gather(registry, write_run("mf"), short), measure)
    assert summary.comparisons == ()
    assert any("not compared" in note and "400" in note for note in summary.notes)


def test_another_protocol_without_the_model(write_run: WriteRun, registry: Registry, measure: Measure) -> None:
    collected = gather(registry, write_run("mf"))
    before = summarise(collected, measure)
    after = summarise(collected, dataclasses.replace(measure, warm="more-than-3", cold="unseen"))

    def sizes(summary: Summary) -> tuple[int, int]:
        cells = line(summary, "mf").cells
        return cells["warm"]["auc"].n, cells["cold"]["auc"].n

    # 40 users with 0..5 training rows in turn, 12 rows each.
    assert sizes(before) == (12 * 19, 12 * 21)
    assert sizes(after) == (12 * 12, 12 * 7)
    assert after.protocol["warm"] == "more-than-3"


def test_the_papers_numbers_need_the_papers_rows(write_run: WriteRun, registry: Registry, measure: Measure) -> None:
    full = {"train": 33891, "valid": 10401, "test": 7331}
    assert paper_dataset(full) == "ml-1m"
    assert paper_dataset(full | {"test": 7330}) is None
    book = {"train": 727_468, "valid": 25_747, "test": 25_747}
    assert paper_dataset(book) == paper_dataset(book | {"train": 727_463}) == "amazon-book"
    assert paper_dataset(book | {"train": 727_464}) is None
    assert paper_values("collm-mf", "ml-1m") == {"auc": 0.7295, "uauc": 0.6875, "ndcg": 0.8714}
    assert paper_values("collm-mf", "amazon-book", title="table4") == {"auc": 0.8133, "uauc": 0.6314}
    assert paper_values("mf+tallrec", "ml-1m", title="table3") == {"auc": 0.7239}
    assert paper_values("nobody", "ml-1m") == {}
    summary = summarise(gather(registry, write_run("collm-mf", full_counts=full)), measure)
    assert line(summary, "collm-mf").paper["auc"] == 0.7295
    assert summarise(gather(registry, write_run("tallrec")), measure).lines[1].paper == {}


def test_bad_targets(write_run: WriteRun, registry: Registry, measure: Measure, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a run folder"):
        gather(registry, tmp_path / "nothing")
    unfinished = write_run("mf")
    (unfinished / "done").unlink()
    (unfinished / "events.jsonl").write_text('{"event": "run_failed", "error": "DataError: no rows\\nmore"}\n')
    with pytest.raises(RunError, match=r"not finished \(DataError: no rows\)"):
        gather(registry, unfinished)
    with pytest.raises(UsageError, match="no run has valid scores; the runs have test"):
        summarise(gather(registry, write_run("other")), measure, split="valid")
    broken = write_run("broken")
    scores(1.0).drop("item").write_parquet(broken / "scores.parquet")
    with pytest.raises(RunError, match="lacks the columns item"):
        summarise(gather(registry, broken), measure)


def test_counts_of_the_data_stand_beside_table_1(write_run: WriteRun, registry: Registry, measure: Measure) -> None:
    full = {"train": 33891, "valid": 10401, "test": 7331, "users": 838, "items": 3255}
    run = write_run("mf", full_counts=full, spec={"dataset": {"name": "released"}})
    (grid,) = [each for each in report_tables(summarise(gather(registry, run), measure)) if each.key == "data"]
    assert [[cell.text for cell in row] for row in grid.rows] == [
        ["released", "33,891", "10,401", "7,331", "838", "3,255"],
        ["the paper's ml-1m", "33,891", "10,401", "7,331", "839", "3,256"],
    ]


def test_a_terminal_shows_the_first_columns_of_numbers_and_all_text() -> None:
    row = tuple(Text(str(number)) for number in range(12))
    grid = Grid("improvement", "wide", tuple("abcdefghijkl"), (row,), (False,), frozenset({0, 11}))
    assert _terminal_columns(grid) == [0, 1, 2, 3, 4, 5, 6, 7, 11]
