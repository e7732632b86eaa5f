"""Ranked lists in a report: their split, their columns, the slice that is compared."""

from __future__ import annotations

import csv
import dataclasses
import io

import numpy as np
import polars as pl
import pytest
from report_fakes import WriteRun, gather, rank, ranked, scores

from collm.registry import Registry
from collm.report.pages import measure_of
from collm.report.summary import summarise
from collm.report.tables import report_tables, to_csv
from collm.rescore import Measure
from collm.stages.evaluate import build_metrics


def test_a_line_of_the_csv_names_the_split_that_was_ranked(write_run: WriteRun, registry: Registry) -> None:
    collected = gather(registry, rank(write_run("mf"), "hr@3", split="valid"))
    summary = summarise(collected, measure_of(collected, registry))
    lines = list(csv.DictReader(io.StringIO(to_csv(summary))))
    assert {(each["split"], each["candidates"]) for each in lines} == {("test", ""), ("valid", "all")}
    own = ranked(split="valid").filter((pl.col("method") == "") & (pl.col("label") == 1))
    hits = own.group_by("user").agg(pl.col("rank").min() <= 3)["rank"].mean()
    (found,) = [e for e in lines if (e["method"], e["metric"], e["slice"]) == ("mf", "hr@3", "all")]
    assert float(found["value"]) == pytest.approx(hits)


def test_sets_of_lists_keep_the_metrics_of_their_own(write_run: WriteRun, registry: Registry) -> None:
    short, long = write_run("short"), write_run("long", seed=1)
    collected = gather(registry, rank(short, "hr@3"), rank(long, "hr@3", "hr@20", seed=1, depth=20))
    (lists,) = summarise(collected, measure_of(collected, registry)).rankings
    tables = {each.key: each.header for each in report_tables(summarise(collected, measure_of(collected, registry)))}
    assert tables["ranking-all-results-all-a"][:2] == ("method", "HR@3")
    assert tables["ranking-all-results-all-b"][:3] == ("method", "HR@3", "HR@20")
    assert "the number of items that were kept" in lists.notes[0]


def test_lists_are_compared_on_a_slice_that_they_have(
    write_run: WriteRun, registry: Registry, measure: Measure
) -> None:
    cold = scores(1.0).with_columns(user_train_rows=pl.lit(0), item_train_rows=pl.lit(0))
    collected = gather(registry, rank(write_run("mf", frame=cold), "mrr"))
    lists = build_metrics(["mrr"], registry)
    given = dataclasses.replace(measure, slices=("cold", "warm"), list_metrics=lists)
    summary = summarise(collected, given)
    assert summary.slices == ("cold", "warm")
    assert summary.rankings[0].slices == ("warm", "cold"), "all positives are warm"
    assert [each.metric for each in summary.rankings[0].blocks[0].comparisons] == ["mrr"]
    line = summary.rankings[0].blocks[0].methods[0]
    own = ranked().filter((pl.col("method") == "") & (pl.col("label") == 1))
    best = own.group_by("user").agg(pl.col("rank").min())["rank"].to_numpy()
    assert line.cells["warm"]["mrr"].value == pytest.approx(np.mean(1 / best))
