"""The sentences of a report follow its tests, whichever way around a comparison is stored."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from report_fakes import WriteRun, scores

from collm.component import BuildContext
from collm.registry import Registry
from collm.report.collect import Reading, collect
from collm.report.compare import Difference
from collm.report.grid import Cell
from collm.report.overview import ranked, verdicts
from collm.report.pages import measure_of, run_verdicts
from collm.report.records import Block
from collm.report.summary import summarise
from collm.runs.records import RunOutcome

AUC = {"mf": 0.71, "collm": 0.75, "floor": 0.73}


def line(name, value, floors, part="all"):
    cell = Cell(value, None if value is None else value - 0.02, None if value is None else value + 0.02, n=200)
    method = SimpleNamespace(name=name, floor=name == "floor")
    return SimpleNamespace(method=method, cells={part: {"auc": cell}}, bars=floors)


def summary(values, comparisons, *, label="", higher=True, floors=None, part="all"):
    best = {"auc": "floor"} if floors is None else floors
    lines = tuple(line(name, value, best, part) for name, value in values.items())
    block = Block(label, 7_331, 320, lines, tuple(comparisons), {}, None, {})
    return SimpleNamespace(
        blocks=(block,), metrics=("auc",), slices=(part,), split="test", higher_is_better={"auc": higher}
    )


def difference(first, second, value, p):
    return Difference(first, second, "auc", value, value - 0.01, value + 0.01, p, p, math.nan)


def test_tested_methods():
    found = verdicts(summary(AUC, [difference("mf", "collm", -0.04, 0.001), difference("floor", "collm", -0.02, 0.3)]))
    assert found == (
        "collm has the best AUC of 2 methods, 0.7500 [0.730, 0.770] on 7,331 test rows of 320 users; its difference to "
        "the best floor that sees as much, floor, is +0.0200 [0.010, 0.030], not significant (p 0.3).",
        "It differs significantly from mf (paired test, Holm's correction).",
    )


@pytest.mark.parametrize(
    ("p", "said"),
    [
        (0.049, "is +0.0200 [0.010, 0.030] (p 0.049)."),
        (0.051, "is +0.0200 [0.010, 0.030], not significant (p 0.051)."),
        (math.nan, "is +0.0200 [0.010, 0.030] over users, and one seed is not tested."),
    ],
)
def test_against_the_floor(p, said):
    first, *_ = verdicts(summary({"collm": 0.75, "floor": 0.73}, [difference("collm", "floor", 0.02, p)]))
    assert first.startswith("collm is the only method, AUC 0.7500")
    assert first.endswith(said)


def test_one_seed_is_not_tested():
    _, second = verdicts(summary(AUC, [difference("collm", "mf", 0.04, math.nan)]))
    assert second.startswith("The difference to the next method, mf, is +0.0400 [0.030, 0.050]; one seed is not")


def test_what_is_significant_and_what_is_not():
    values = {"a": 0.70, "b": 0.72, "c": 0.75}
    pairs = [difference("c", "a", 0.05, 0.01), difference("c", "b", 0.03, 0.2)]
    assert verdicts(summary(values, pairs, floors={}))[1] == (
        "It differs significantly from a, and not from b (paired test, Holm's correction)."
    )
    assert verdicts(summary(values, pairs[1:], floors={}))[1].startswith("It differs significantly from no other (")


def test_lower_may_be_better_and_nothing_may_be_known():
    found = summary(AUC, [], higher=False)
    assert [each.method.name for each in ranked(found, found.blocks[0], "auc")] == ["mf", "collm"]
    assert verdicts(summary({"mf": None, "floor": 0.7}, [])) == ()


def test_blocks_are_told_apart():
    (first, *_) = verdicts(summary({"collm": 0.75}, [], label="B", floors={}))
    assert first.startswith("collm [rows B] is the only method")


def test_the_rows_of_a_slice_are_not_called_all_rows():
    (first, *_) = verdicts(summary({"collm": 0.75}, [], floors={}, part="warm"))
    assert first == "collm is the only method, AUC 0.7500 [0.730, 0.770] on the warm test rows (n=200)."


def test_equal_values_are_best_together():
    values = {"a": 0.75, "b": 0.75, "c": 0.7}
    pairs = [difference("a", "b", 0.0, 1.0), difference("a", "c", 0.05, 0.01)]
    first, second = verdicts(summary(values, pairs, floors={}))
    assert first.startswith("a and b have the best AUC of 3 methods, 0.7500 [")
    assert second == "a differs significantly from c, and not from b (paired test, Holm's correction)."
    against = difference("a", "floor", 0.02, 0.3)
    (first, *_) = verdicts(summary(values | {"floor": 0.73}, [*pairs, against]))
    assert "; the difference of a to the best floor that sees as much, floor, is +0.0200" in first


def test_a_method_with_one_seed_is_not_called_tested():
    values = {"a": 0.70, "b": 0.72, "c": 0.75}
    untested = difference("c", "a", 0.05, math.nan)
    (_, second) = verdicts(summary(values, [untested, difference("c", "b", 0.03, 0.2)], floors={}))
    assert second == (
        "It differs significantly from no other that is tested (paired test, Holm's correction); with one seed not "
        "tested: a."
    )
    (_, second) = verdicts(summary(values, [untested, difference("c", "b", 0.03, 0.01)], floors={}))
    assert second == "It differs significantly from b (paired test, Holm's correction); with one seed not tested: a."


def test_the_next_method_is_behind_those_that_are_best_together():
    values = {"a": 0.75, "b": 0.75, "c": 0.7}
    pairs = [difference("a", "b", 0.0, math.nan), difference("a", "c", 0.05, math.nan)]
    (_, second) = verdicts(summary(values, pairs, floors={}))
    assert second.startswith("The difference to the next method, c, is +0.0500 [")
    assert len(verdicts(summary({"a": 0.75, "b": 0.75}, pairs[:1], floors={}))) == 1


def test_a_run_says_what_its_report_says(write_run: WriteRun, registry: Registry) -> None:
    noises = {"a": 1.6, "b": 1.7}
    folders = [write_run(name, noise=noises[name], seed=seed) for name in noises for seed in (0, 1, 2, 3)]
    found = scores(1.0)
    # One floor is the best in AUC, the other in uAUC: whether users differ in level decides the first alone.
    level = found["user"].cast(pl.Int64) % 5
    own = (found["label"] + np.random.default_rng(2).normal(size=found.height) * 0.9).to_numpy()
    other = (found["label"] * 0.6 + np.random.default_rng(3).normal(size=found.height) * 0.8).to_numpy()
    floors = {"of-users": own + 0.6 * level.to_numpy(), "of-rows": other}
    for folder in folders:
        found.select("split", "row").with_columns(**floors).write_parquet(folder / "floors.parquet")
    reading = Reading(Path("runs"), registry, BuildContext(cache_dir=Path("runs")))
    collected = collect(folders, reading)
    summary = summarise(collected, measure_of(collected, registry))
    assert set(summary.blocks[0].best_floors.values()) == set(floors), "both floors are compared"
    runs = [RunOutcome(each.results, each.path, reused=True) for each in collected.runs]
    assert run_verdicts(runs, reading) == verdicts(summary)
    (first, *_) = verdicts(summary)
    assert "p " in first
