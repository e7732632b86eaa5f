"""Metrics with settings, all the way: run, run again, report, difference; a plugin's metric reads all columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import Field
from sklearn.metrics import ndcg_score

from collm.component import BuildContext, Component
from collm.contracts.metric import MetricConfig, MetricValue, ScoredRows
from collm.registry import Registry, default_registry, registry_of
from collm.report.collect import Reading, collect
from collm.report.difference import run_difference
from collm.report.pages import measure_of
from collm.report.render import to_latex
from collm.report.summary import summarise
from collm.report.tables import to_csv
from collm.runner import run_spec
from collm.runs.environment import RunOptions
from collm.spec.node import Place
from collm.spec.read import read_text
from collm.spec.resolve import resolve_document

SPEC = """
name: m
seed: {seed}
dataset: {{name: tiny, n_users: 30, n_items: 40}}
encoder: {{name: mf-bias, fit: {{epochs: 2}}}}
evaluate: {{resamples: 20, metrics: {metrics}}}
"""
METRICS = "[auc, ndcg, ndcg@3, {name: ndcg, k: 1}, mean-of@2, {name: mean-of, column: item_train_rows, k: 0}]"
LABELS = ["auc", "ndcg", "ndcg@3", "ndcg@1", "mean-of@2", "mean-of(column=item_train_rows)"]


class MeanOfConfig(MetricConfig):
    column: str = Field(default="timestamp", description="What is averaged.")
    k: int = Field(default=0, description="Added to the mean.")


class MeanOf:
    higher_is_better = True
    reads_labels = False
    unit = "rows"

    def __init__(self, config: MeanOfConfig) -> None:
        self.column, self.k = config.column, config.k

    def compute(self, rows: ScoredRows) -> MetricValue:
        values = getattr(rows, self.column)
        if values is None or not len(values):
            return MetricValue(None, 0, reason=f"{self.column} is not known" if values is None else "no rows")
        return MetricValue(float(values.mean()) + self.k, len(values))

    def resample(self, rows: ScoredRows, user_weights: Any) -> Any:
        return np.full(len(user_weights), np.nan)


@pytest.fixture(scope="module")
def registry() -> Registry:
    component = Component("metric", "mean-of", f"{__name__}:MeanOf", MeanOfConfig, "Mean of a column.")
    return registry_of([*default_registry().components(), component])


def run(folder: Path, registry: Registry, metrics: str = METRICS, seed: int = 0) -> dict[str, Any]:
    text = SPEC.format(metrics=metrics, seed=seed)
    spec = resolve_document(read_text(text, Place("m.yaml", folder=folder)), registry)
    return run_spec(spec, registry, RunOptions(folder / "runs", folder / "cache", device="cpu", threads=1)).plain()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("metrics")


@pytest.fixture(scope="module")
def results(folder: Path, registry: Registry) -> dict[str, Any]:
    return run(folder, registry)


def test_labels_are_the_keys_of_results(folder: Path, results: dict[str, Any]) -> None:
    found = results["metrics"]["test"]["all"]
    assert list(found) == LABELS
    assert list(results["floors"]["test"]["all"]["item-mean"]) == LABELS
    scores = pl.read_parquet(Path(results["run_dir"]) / "scores.parquet").filter(pl.col("split") == "test")
    groups = [(each["label"].to_list(), each["logit"].to_list()) for _, each in scores.group_by("user")]
    for label, k in (("ndcg", None), ("ndcg@3", 3), ("ndcg@1", 1)):
        usable = [ndcg_score([labels], [logits], k=k) for labels, logits in groups if len(set(labels)) == 2]
        assert found[label]["value"] == pytest.approx(np.mean(usable), abs=1e-9)
    assert found["mean-of@2"]["value"] == pytest.approx(scores["timestamp"].mean() + 2)
    train_rows = found["mean-of(column=item_train_rows)"]["value"]
    assert train_rows == pytest.approx(scores["item_train_rows"].mean())


def test_other_metrics_on_the_same_scores_need_no_model(
    folder: Path, results: dict[str, Any], registry: Registry
) -> None:
    again = run(folder, registry)
    assert again["reused"]
    other = run(folder, registry, metrics="[ndcg@2]")
    assert other["timing"]["fit_encoder"]["reused"]
    assert list(other["metrics"]["test"]["all"]) == ["ndcg@2"]
    # Settings alone tell the two apart.
    assert list(run(folder, registry, metrics="[ndcg@4]")["metrics"]["test"]["all"]) == ["ndcg@4"]
    assert other["spec_hash"] != results["spec_hash"]


def test_a_report_measures_by_labels(folder: Path, results: dict[str, Any], registry: Registry) -> None:
    context = BuildContext(folder / "cache", find=registry.get)
    collected = collect([Path(results["run_dir"])], Reading(folder / "runs", registry, context, cwd=folder))
    summary = summarise(collected, measure_of(collected, registry))
    assert summary.metrics == tuple(LABELS)
    (line,) = [line for block in summary.blocks for line in block.lines if line.method.name == "m"]
    for label in LABELS:
        assert line.cells["all"][label].value == results["metrics"]["test"]["all"][label]["value"]
    assert "NDCG@3" in to_latex(summary)
    assert r"mean-of(column=item\_train\_rows)" in to_latex(summary)
    assert "m,False,no language model,0,test,all,ndcg@3," in to_csv(summary)
    chosen = measure_of(collected, registry, metrics=["ndcg@5", "mean-of(k=1)"])
    assert list(chosen.metrics) == ["ndcg@5", "mean-of@1"]


def test_scores_of_earlier_versions_have_no_times(folder: Path, results: dict[str, Any], registry: Registry) -> None:
    path = Path(run(folder, registry, metrics="[mean-of@2, auc]")["run_dir"])
    frame = pl.read_parquet(path / "scores.parquet")
    assert frame.columns[-1] == "timestamp"
    (path / "done").write_text("now\n")
    frame.drop("timestamp").write_parquet(path / "scores.parquet")
    context = BuildContext(folder / "cache", find=registry.get)
    collected = collect([path], Reading(folder / "runs", registry, context, cwd=folder))
    summary = summarise(collected, measure_of(collected, registry))
    (line,) = [line for block in summary.blocks for line in block.lines if line.method.name == "m"]
    assert line.cells["all"]["mean-of@2"].reason == "timestamp is not known"


def test_a_difference_of_runs_has_the_labels(folder: Path, results: dict[str, Any], registry: Registry) -> None:
    other = run(folder, registry, seed=1)
    found = run_difference(Path(results["run_dir"]), Path(other["run_dir"]), registry)
    # Those without resamples cannot be compared.
    assert list(found["metrics"]["test"]) == LABELS[:4]
    assert found["metrics"]["test"]["ndcg@3"]["second"] == other["metrics"]["test"]["all"]["ndcg@3"]["value"]
