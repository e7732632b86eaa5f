"""Summaries: seeds together, floors, marks, the paper's numbers, protocols, refusals."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from report_fakes import WriteRun, gather, scores
from sklearn.metrics import roc_auc_score

from collm.errors import RunError, UsageError
from collm.registry import Registry
from collm.report.costs import costs
from collm.report.overview import overview_figures, verdicts
from collm.report.pages import measure_of
from collm.report.paper import paper_dataset, paper_values
from collm.report.records import Line, Summary
from collm.report.summary import summarise
from collm.report.tables import report_tables, to_csv
from collm.rescore import Measure


def line(summary: Summary, name: str) -> Line:
    return next(each for each in summary.lines if each.method.name == name)


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
    assert all(np.isnan(each.p) for each in summary.comparisons if "weak" in (each.first, each.second))


def test_one_seed_repeats_the_recorded_interval(write_run: WriteRun, registry: Registry, measure: Measure) -> None:
    collected = gather(registry, write_run("mf"))
    recorded = collected.runs[0].results.metrics["test"]
    summary = summarise(collected, measure)
    for part in ("all", "warm", "cold"):
        for metric in ("auc", "uauc", "ndcg"):
            cell = line(summary, "mf").cells[part][metric]
            before = recorded[part][metric]
            assert (cell.value, cell.low, cell.high) == (before.value, before.low, before.high)


def test_floors_and_marks(write_run: WriteRun, registry: Registry, measure: Measure) -> None:
    good, bad = (
        write_run("good", noise=0.3),
        write_run("bad", frame=scores(1.0).with_columns(score=1 - pl.col("score"), logit=-pl.col("logit"))),
    )
    summary = summarise(gather(registry, good, bad), measure)
    assert summary.blocks[0].best_floors == {"auc": "item-mean", "uauc": "item-mean", "ndcg": "item-mean"}
    assert line(summary, "good").above_floor["auc"] is True
    assert line(summary, "bad").above_floor["auc"] is False
    assert "Not above the best floor in AUC: bad." in summary.notes
    assert {(each.first, each.second) for each in summary.comparisons} == {
        ("item-mean", "good"),
        ("item-mean", "bad"),
        ("good", "bad"),
    }
    assert not any(each.significant for each in summary.comparisons), "one seed each: no test"


def test_seeds_on_other_rows_make_blocks_and_are_not_averaged(
    write_run: WriteRun, registry: Registry, measure: Measure
) -> None:
    # As a limit that draws users by the run's seed leaves them: every seed has rows of its own.
    rows = {0: slice(0, 240), 1: slice(240, 480), 2: slice(120, 360)}
    folders = [
        write_run(name, seed=seed, frame=scores(noise, seed)[part])
        for name, noise in (("mf", 0.5), ("knn", 2.0))
        for seed, part in rows.items()
    ]
    summary = summarise(gather(registry, *folders), measure)
    assert [block.label for block in summary.blocks] == ["A", "B", "C"]
    for (seed, part), block in zip(rows.items(), summary.blocks, strict=True):
        assert [each.method.name for each in block.lines] == ["item-mean", "mf", "knn"]
        assert block.n_rows == 240
        frame = scores(0.5, seed)[part]
        cell = next(each for each in block.methods if each.method.name == "mf").cells["all"]["auc"]
        assert cell.value == cell.smallest == pytest.approx(roc_auc_score(frame["label"], frame["score"]))
        floor = np.random.default_rng(1).random(240)
        assert block.lines[0].cells["all"]["auc"].value == pytest.approx(roc_auc_score(frame["label"], floor))
        # Within a seed the methods have the same rows: compared, but a single seed is not tested.
        assert {(each.first, each.second) for each in block.comparisons} >= {("mf", "knn")}
    assert all(np.isnan(each.p) for each in summary.comparisons if "mf" in (each.first, each.second))
    assert any("3 sets of rows" in note and "not" in note for note in summary.notes)
    assert any("Seeds of knn, mf scored different rows" in note and "limit.seed" in note for note in summary.notes)
    keys = [grid.key for grid in report_tables(summary)]
    assert {"results-all-a", "results-all-b", "results-all-c"} <= set(keys)
    assert not any(cell.strong for grid in report_tables(summary) for row in grid.rows for cell in row)
    assert {row.rsplit(",", 2)[1] for row in to_csv(summary).splitlines()[1:]} == {"A", "B", "C"}


def test_a_method_is_judged_by_the_floors_of_its_own_rows(
    write_run: WriteRun, registry: Registry, measure: Measure
) -> None:
    # The same test rows, floors fitted on other training rows: other floors, so another block.
    first = write_run("mf", noise=0.5)
    second = write_run("book", noise=4.0)
    frame = pl.read_parquet(second / "floors.parquet")
    label = scores(1.0)["label"].cast(pl.Float64)
    frame.with_columns(label.alias("item-mean")).write_parquet(second / "floors.parquet")
    summary = summarise(gather(registry, first, second), measure)
    assert [block.label for block in summary.blocks] == ["A", "B"]
    assert [block.methods[0].above_floor["auc"] for block in summary.blocks] == [True, False]
    assert summary.blocks[0].improvements.keys() == {("mf", "item-mean")}


def test_rows_of_other_training_counts_are_other_rows(
    write_run: WriteRun, registry: Registry, measure: Measure
) -> None:
    # Warm and cold are decided by training counts: with other counts "warm" would be other rows.
    other = scores(1.0).with_columns(user_train_rows=pl.col("user_train_rows") + 1)
    summary = summarise(gather(registry, write_run("mf"), write_run("other", frame=other)), measure)
    assert len(summary.blocks) == 2


def test_other_rows_are_not_compared(write_run: WriteRun, registry: Registry, measure: Measure) -> None:
    short = write_run("short", frame=scores(1.0).head(400))
    summary = summarise(gather(registry, write_run("mf"), short), measure)
    assert not [each for each in summary.comparisons if {"mf", "short"} == {each.first, each.second}]
    assert any(
        "A = 480 test rows of 40 users" in note and "B = 400 test rows of 34 users" in note for note in summary.notes
    )


def test_bold_needs_seeds_and_tests_hold_within_them(write_run: WriteRun, registry: Registry, measure: Measure) -> None:
    folders = [
        write_run(name, noise=noise, seed=seed) for name, noise in (("a", 0.4), ("b", 3.0)) for seed in (0, 1, 2)
    ]
    summary = summarise(gather(registry, *folders), measure)
    bold = {
        row[0].text
        for grid in report_tables(summary)
        if grid.key == "results-all"
        for row in grid.rows
        if row[1].strong
    }
    assert bold == {"a"}
    (pair,) = [each for each in summary.comparisons if (each.first, each.second, each.metric) == ("a", "b", "auc")]
    assert pair.significant
    assert 0 < pair.p < 0.05


def test_a_method_that_no_seed_changes_is_named(write_run: WriteRun, registry: Registry, measure: Measure) -> None:
    folders = [write_run("knn", seed=seed, frame=scores(1.0, 7)) for seed in (0, 1)]
    summary = summarise(gather(registry, *folders), measure)
    assert "All seeds gave the same scores: knn." in summary.notes
    (grid,) = [each for each in report_tables(summary) if each.key == "results-all"]
    assert grid.rows[1][-2].text == "n=2 (0, 1), equal"
    assert "(smallest" in grid.caption


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
    whole = {"full_counts": full, "counts": full}
    summary = summarise(gather(registry, write_run("collm-mf", **whole)), measure)
    assert line(summary, "collm-mf").paper["auc"] == 0.7295
    # The paper's data, but only some of its rows were scored: nothing beside the paper, and the reason.
    drawn = write_run("collm-mf", seed=1, full_counts=full, counts=full | {"test": 112})
    summary = summarise(gather(registry, drawn), measure)
    assert line(summary, "collm-mf").paper == {}
    assert any("numbers are not shown" in note and "112 of 7,331 test rows" in note for note in summary.notes)
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


def test_a_method_is_held_against_floors_that_see_as_much(
    write_run: WriteRun, registry: Registry, measure: Measure
) -> None:
    needs = {"floor_needs": {"item-mean": [], "online": ["earlier-labels"]}}
    rules = {"visibility": "strictly-earlier", "tie_rule": "file order"}
    runs = [
        write_run(name, **needs, protocol=rules | {"sees_earlier_rows": name == "later"})
        for name in ("static", "later")
    ]
    for run in runs:
        frame = pl.read_parquet(run / "floors.parquet")
        frame.with_columns(scores(1.0)["label"].cast(pl.Float64).alias("online")).write_parquet(run / "floors.parquet")
    summary = summarise(gather(registry, *runs), measure)
    assert line(summary, "static").bars["auc"] == "item-mean"
    assert line(summary, "later").bars["auc"] == "online"
    assert (line(summary, "static").above_floor["auc"], line(summary, "later").above_floor["auc"]) == (True, False)
    assert "the best floor that sees as much, " in verdicts(summary)[0]


def test_a_method_equal_to_the_best_floor_is_not_above_it(
    write_run: WriteRun, registry: Registry, measure: Measure
) -> None:
    floor = np.random.default_rng(1).random(480)
    logit = np.log(floor / (1 - floor))
    same = write_run("same", frame=scores(1.0).with_columns(score=pl.Series(floor), logit=pl.Series(logit)))
    summary = summarise(gather(registry, same), measure)
    assert line(summary, "same").cells["all"]["auc"].value == summary.lines[0].cells["all"]["auc"].value
    assert line(summary, "same").above_floor["auc"] is False


def test_times_are_relative_to_text_only_in_training_and_in_scoring(
    write_run: WriteRun, registry: Registry, measure: Measure
) -> None:
    def timing(fit: float, tune: float, score: float) -> dict[str, dict[str, Any]]:
        return {
            "fit_encoder": {"seconds": fit, "reused": False},
            "tune_1": {"seconds": 0.0, "work_seconds": tune, "reused": True},
            "evaluate": {"seconds": score, "reused": False},
        }

    folders = [
        write_run("text-only", timing=timing(0.0, 40.0, 8.0)),
        write_run("collm", timing=timing(10.0, 50.0, 12.0)),
    ]
    found = {each.method: each for each in costs(summarise(gather(registry, *folders), measure))}
    assert (found["collm"].training_seconds, found["collm"].scoring_seconds) == (60.0, 12.0)
    assert (found["collm"].training_ratio, found["collm"].scoring_ratio) == (1.5, 1.5)
    assert (found["text-only"].training_ratio, found["text-only"].scoring_ratio) == (1.0, 1.0)
    slower = write_run("slow", timing=timing(0.0, 80.0, 4.0))
    found = {each.method: each for each in costs(summarise(gather(registry, *folders, slower), measure))}
    assert (found["slow"].training_ratio, found["slow"].scoring_ratio) == (2.0, 0.5)
    assert found["slow"].seconds_per_row == pytest.approx(4.0 / 480)


def test_a_slice_without_rows_comes_last(write_run: WriteRun, registry: Registry, measure: Measure) -> None:
    cold = scores(1.0).with_columns(user_train_rows=pl.lit(0, pl.Int32), item_train_rows=pl.lit(0, pl.Int32))
    found = gather(registry, write_run("mf", frame=cold))
    summary = summarise(found, dataclasses.replace(measure, slices=("warm", "cold")))
    assert summary.slices == ("cold", "warm")
    assert verdicts(summary)[0].startswith("mf is the only method, AUC ")
    assert "on the cold test rows (n=480)" in verdicts(summary)[0]
    assert overview_figures(summary)[0].caption == "the cold test rows (n=480)"
    assert summary.blocks[0].comparisons


def test_a_first_metric_of_ones_own_is_compared_too(write_run: WriteRun, registry: Registry, measure: Measure) -> None:
    own = {"ndcg": measure.metrics["ndcg"], "auc": measure.metrics["auc"]}
    found = summarise(gather(registry, write_run("mf", noise=0.5)), dataclasses.replace(measure, metrics=own))
    assert {each.metric for each in found.blocks[0].comparisons} == {"ndcg", "auc"}
    assert "is not compared" not in verdicts(found)[0]


def test_runs_of_other_metrics_and_slices_are_shown_in_all_of_them(write_run: WriteRun, registry: Registry) -> None:
    evaluate = {"splits": ["test"], "slices": ["warm"], "metrics": ["ndcg@3"], "resamples": 0}
    other = evaluate | {"slices": ["all"], "metrics": ["auc"], "resamples": 50}
    folders = [write_run(name, spec={"evaluate": each}) for name, each in (("a", evaluate), ("b", other))]
    found = gather(registry, *folders)
    summary = summarise(found, measure_of(found, registry))
    assert (summary.metrics, summary.slices) == (("ndcg@3", "auc"), ("all", "warm"))
    assert line(summary, "a").cells["all"]["auc"].low is not None


def test_the_note_on_the_papers_numbers_names_what_was_drawn(
    write_run: WriteRun, registry: Registry, measure: Measure
) -> None:
    full = {"train": 33891, "valid": 10401, "test": 7331}
    whole = write_run("collm-mf", full_counts=full, counts=full)
    drawn = write_run("collm-mf", seed=1, full_counts=full, counts=full | {"valid": 112})
    (said,) = [each for each in summarise(gather(registry, whole, drawn), measure).notes if "The paper" in each]
    assert said.endswith("because these are on 112 of 10,401 valid rows.")
    valid = scores(1.0).with_columns(split=pl.lit("valid"))
    run = write_run("other", frame=valid, full_counts=full, counts=full)
    assert not [each for each in summarise(gather(registry, run), measure).notes if "The paper" in each]
