"""The results table: order, intervals, notes, widths."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from collm.report.run_table import results_table
from collm.runs.records import RunOutcome


def record(value: float | None, n: int = 7331, **more: Any) -> dict[str, Any]:
    low, high = (None, None) if value is None else (value - 0.02, value + 0.02)
    return {"value": value, "low": low, "high": high, "n": n, "skipped": {}} | more


def result(run: str, auc: float | None, **more: Any) -> dict[str, Any]:
    metrics = {
        part: {"auc": record(auc), "uauc": record(0.6796, 224, skipped={"one-class": 96}), "ndcg": record(0.7867, 224)}
        for part in ("all", "warm", "cold")
    }
    floors = {
        part: {"item-mean": {"auc": record(0.7094), "uauc": record(0.6816, 224, skipped={"one-class": 96})}}
        for part in metrics
    }
    return {
        "schema": 1,
        "name": run,
        "run": run,
        "seed": 0,
        "metrics": {"valid": metrics, "test": metrics},
        "floors": {"test": floors, "valid": floors},
        "timing": {"fit_encoder": {"seconds": 2.5, "reused": False}, "evaluate": {"seconds": 1.0, "reused": False}},
        "counts": {"train": 10, "test": 600},
        "full_counts": {"train": 10, "test": 9000},
        "notes": ["leaky split"],
        "spec_hash": "0123456789",
        "profile": "recommended",
        "reused": False,
        "run_dir": f"runs/{run}-0123456789",
    } | more


def shown(*results: dict[str, Any], width: int = 120, split: str | None = None) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, color_system=None, highlight=False)
    for each in results_table([RunOutcome.of(result) for result in results], split=split):
        console.print(each)
    return stream.getvalue()


def test_floors_come_first_and_once() -> None:
    text = shown(result("mf", 0.6482), result("collm-mf", 0.7295))
    assert text.index("item-mean") < text.index("mf ")
    assert text.count("item-mean") == 3
    assert [text.index(f"test, {part} rows") for part in ("all", "warm", "cold")] == sorted(
        text.index(f"test, {part} rows") for part in ("all", "warm", "cold")
    )


def test_numbers_are_whole_with_intervals_at_100_columns() -> None:
    text = shown(result("collm-mf-bias-with-a-long-name", 0.7295), width=100)
    assert "0.7295 [0.710, 0.750]" in text
    assert "0.6796 [0.660, 0.700]" in text
    assert "0.7867 [0.767, 0.807]" in text
    assert "…" not in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_sizes_and_skipped_users_stand_in_the_title() -> None:
    assert "test, all rows (AUC n=7,331; uAUC n=224, skipped 96 one-class; NDCG n=224)" in shown(result("mf", 0.65))


def test_rows_of_other_sizes_say_so_in_a_column() -> None:
    other = result("other", 0.65)
    other["metrics"]["test"]["all"]["auc"] = record(0.6, 100)
    text = shown(result("mf", 0.65), other)
    assert "test, all rows (" not in text
    assert "AUC n=100" in text


def test_missing_value_shows_its_reason() -> None:
    text = shown(result("mf", None) | {"metrics": {"test": {"cold": {"auc": record(None, 0, reason="no rows")}}}})
    assert "no rows" in text


def test_value_without_interval() -> None:
    bare = {"test": {"all": {"auc": {"value": 0.5, "low": None, "high": None, "n": 3, "skipped": {}}}}}
    text = shown(result("mf", 0.5) | {"metrics": bare, "floors": {}})
    assert "0.5000\n" in "\n".join(line.rstrip() for line in text.splitlines())


def test_notes_state_limits_leakage_and_seeds() -> None:
    text = shown(result("mf", 0.6), result("text-only", 0.6, notes=["leaky split", "tuned on 500 rows"]))
    assert "drawn: test 600 of 9,000 rows" in text
    assert "\n  leaky split\n" in text
    assert "\n  text-only: tuned on 500 rows\n" in text
    assert "one seed (n=1, seed 0)" in text


def test_drawn_rows_are_those_of_their_run_alone() -> None:
    whole = {"full_counts": {"test": 9000}, "counts": {"test": 9000}}
    some = {"full_counts": {"test": 9000}, "counts": {"test": 600}}
    text = shown(result("mf", 0.6, **whole), result("cut", 0.6, **some))
    assert "\n  cut: drawn: test 600 of 9,000 rows" in text
    assert "these runs scored different rows" in text
    valid = result("mf", 0.6, **whole)["metrics"]["valid"]
    alone = result("valid-alone", 0.6, **whole, metrics={"valid": valid})
    assert "scored different rows" not in shown(result("mf", 0.6, **whole), alone, split="valid")
    fewer = {"full_counts": {"train": 90, "test": 9000}, "counts": {"train": 50, "test": 9000}}
    text = shown(result("mf", 0.6, **whole), result("fewer", 0.6, **fewer))
    assert "\n  fewer: drawn: train 50 of 90 rows" in text
    assert "scored different rows" not in text


def test_several_seeds_are_told_apart() -> None:
    text = shown(result("mf", 0.6), result("mf", 0.61, seed=1))
    assert "mf (seed 0)" in text
    assert "mf (seed 1)" in text
    assert "n=1" not in text


def test_run_folders_and_their_cost() -> None:
    text = shown(result("mf", 0.6), result("collm", 0.7, reused=True))
    assert "mf     runs/mf-0123456789  (3.5 s)" in text
    assert "collm  runs/collm-0123456789  (finished before)" in text


def test_floors_of_other_data_carry_their_run() -> None:
    other = result("book", 0.6)
    other["floors"]["test"]["all"]["item-mean"]["auc"] = record(0.8)
    assert "item-mean (for book)" in shown(result("mf", 0.6), other)


def test_other_split_and_no_runs() -> None:
    assert "valid, all rows" in shown(result("mf", 0.6), split="valid")
    assert shown().strip() == "no runs"


def test_markup_in_a_name_is_text() -> None:
    assert "[red]mf[/red]" in shown(result("[red]mf[/red]", 0.6))


def test_a_run_without_the_split_that_is_shown_is_named() -> None:
    other = result("other", 0.7)
    other["metrics"] = {"valid": other["metrics"]["valid"]}
    assert "without test scores, so not in the tables of rows: other" in shown(result("mf", 0.7), other)
    assert "without" not in shown(other)


def test_a_limit_is_stated_once() -> None:
    said = "dataset.limit: test 600 of 9000 rows (whole users drawn, limit.seed 0)"
    assert shown(result("mf", 0.7, notes=[said])).count("of 9") == 1
    assert "drawn: test 600 of 9,000 rows" in shown(result("mf", 0.7))
