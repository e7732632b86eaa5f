"""Entries of `evaluate.metrics`: how they are written, what they are called, what enters fingerprints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field

from collm.component import Component, location_field
from collm.contracts.data import DatasetConfig
from collm.contracts.encoder import EncoderConfig
from collm.contracts.metric import MetricConfig, metric_label
from collm.errors import SpecError
from collm.registry import Registry, registry_of
from collm.spec.contents import spec_locations
from collm.spec.fingerprint import config_payload
from collm.spec.metric_entries import chosen_entries, entry_config, entry_label, parse_metric, split_metrics
from collm.spec.model import ResolvedSpec
from collm.spec.resolve import load_spec


class Bins(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    n: int = Field(default=10, description="Bins.")


class TopConfig(MetricConfig):
    k: int = Field(default=20, ge=1, description="Places.")
    mode: Literal["mean", "sum"] = Field(default="mean", description="How.")


class RichConfig(MetricConfig):
    beta: float = Field(default=1.0, gt=0, description="Weight.")
    text: str = Field(default="", description="Words.")
    sizes: tuple[int, ...] = Field(default=(), description="Sizes.")
    exact: bool = Field(default=False, description="Whether.")
    limit: int | None = Field(default=3, description="Limit.")
    bins: Bins = Field(default=Bins(), description="Bins.")
    file: Path | None = location_field(description="Counts.")


class NeedyConfig(MetricConfig):
    beta: float = Field(gt=0, description="Weight of recall.")


@pytest.fixture(scope="module")
def metrics() -> Registry:
    configs = {"auc": MetricConfig, "top": TopConfig, "rich": RichConfig, "needy": NeedyConfig}
    return registry_of(
        [
            *(Component("metric", name, f"{__name__}:build", each, "A metric.") for name, each in configs.items()),
            Component("dataset", "rows", f"{__name__}:build", DatasetConfig, "Rows."),
            Component("encoder", "mf", f"{__name__}:build", EncoderConfig, "MF.", gives=frozenset({"scores"})),
        ]
    )


Load = Callable[[str], ResolvedSpec]


@pytest.fixture
def load(metrics: Registry, tmp_path: Path) -> Load:
    def read(entries: str) -> ResolvedSpec:
        path = tmp_path / "spec.yaml"
        text = f"name: a\ndataset: {{name: rows}}\nencoder: {{name: mf}}\nevaluate:\n  metrics: {entries}\n"
        path.write_text(text, encoding="utf-8")
        return load_spec(path, [], metrics, cwd=tmp_path)

    return read


def labels(spec: ResolvedSpec) -> list[str]:
    return [entry_label(entry) for entry in spec.evaluate.metrics]


LABELS = [
    ({"name": "auc"}, "auc"),
    ({"name": "top"}, "top"),
    ({"name": "top", "k": 20}, "top"),
    ({"name": "top", "k": 5}, "top@5"),
    ({"name": "top", "mode": "sum"}, "top(mode=sum)"),
    ({"name": "top", "k": 5, "mode": "sum"}, "top(k=5, mode=sum)"),
    ({"name": "rich", "beta": 2.0}, "rich(beta=2)"),
    ({"name": "rich", "beta": 0.5, "exact": True, "limit": None}, "rich(beta=0.5, exact=true, limit=null)"),
    ({"name": "rich", "text": "a, b) \"c\""}, 'rich(text="a, b) \\"c\\"")'),
    ({"name": "rich", "text": "true"}, 'rich(text="true")'),
    ({"name": "rich", "text": "1e5"}, 'rich(text="1e5")'),
    ({"name": "rich", "sizes": (1, 2)}, "rich(sizes=[1, 2])"),
    ({"name": "rich", "bins": {"n": 3}}, 'rich(bins={"n": 3})'),
    ({"name": "needy", "beta": 1.0}, "needy(beta=1)"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "label"), LABELS, ids=[label for _, label in LABELS])
def test_labels_are_stable_and_read_back(metrics: Registry, settings: dict[str, Any], label: str) -> None:
    config = entry_config({key: list(v) if isinstance(v, tuple) else v for key, v in settings.items()}, metrics)
    assert metric_label(config) == label
    assert entry_config(label, metrics) == config


def test_forms_of_one_entry_are_one_spec(load: Load) -> None:
    specs = [load(text) for text in ("[top@5]", "[{name: top, k: 5}]", "['top(k=5)']", "[{k: 5, name: top}]")]
    assert {spec.spec_hash for spec in specs} == {specs[0].spec_hash}
    assert labels(specs[0]) == ["top@5"]
    assert load("[{name: top, k: 20}]").evaluate.metrics == ("top",)
    assert load("[top, {name: auc}]").spec_hash == load("[top, auc]").spec_hash
    assert len({load(text).spec_hash for text in ("[top]", "[top@5]", "[top@6]", "['top(k=5, mode=sum)']")}) == 4


def test_names_alone_enter_fingerprints_as_they_always_did(load: Load) -> None:
    evaluate = load("[auc, {name: top}]").evaluate
    before = {
        "splits": ["valid", "test"],
        "slices": ["all", "warm", "cold"],
        "metrics": ["auc", "top"],
        "resamples": 1000,
    }
    later = {"ranking", "protocol", "window", "policy", "update_epochs"}  # fields that are in no fingerprint by default
    assert config_payload(evaluate) == evaluate.model_dump(mode="json", exclude=later) == before
    with_settings = load("[top@5]").evaluate
    assert config_payload(with_settings)["metrics"] == [{"name": "top", "k": 5, "mode": "mean"}]
    assert with_settings.model_dump(mode="json")["metrics"] == config_payload(with_settings)["metrics"]


def test_a_resolved_spec_is_read_again(load: Load) -> None:
    spec = load("[auc, top@5, {name: rich, sizes: [1, 2], file: counts.json}]")
    plain = spec.plain()["evaluate"]["metrics"]
    assert plain[:2] == ["auc", {"name": "top", "k": 5, "mode": "mean"}]
    again = load(yaml.safe_dump(plain, default_flow_style=True, width=10**6).strip())
    assert again.evaluate == spec.evaluate
    assert again.spec_hash == spec.spec_hash


def test_places_of_metrics_with_settings_are_found(load: Load, metrics: Registry, tmp_path: Path) -> None:
    spec = load("[auc, {name: rich, file: counts.json}]")
    assert labels(spec) == ["auc", "rich(file=counts.json)"]
    (found,) = spec_locations(spec, metrics)
    assert (found.field, found.path) == ("evaluate.metrics.rich(file=counts.json).file", tmp_path / "counts.json")
    assert str(tmp_path) not in str(spec.plain(locations=False))
    written = spec.plain()["evaluate"]["metrics"]
    (chosen,) = chosen_entries(["rich(file=counts.json)"], written, metrics)
    assert chosen == spec.evaluate.metrics[1]


@pytest.mark.parametrize(
    ("entries", "path", "part"),
    [
        ("[auc@10]", "evaluate.metrics[0]", "'auc' has no field k, which @ sets; it takes no settings: write auc"),
        ("[rich@10]", "evaluate.metrics[0]", "its fields are beta, text, sizes, exact, limit, bins, file"),
        ("[auc, tap@10]", "evaluate.metrics[1]", "unknown metric 'tap' (did you mean 'top'?)"),
        ("[top@x]", "evaluate.metrics[0].k", "got 'x', must be a whole number"),
        ("[top@0]", "evaluate.metrics[0].k", "must be greater than or equal to 1"),
        ("[{name: top, kk: 3}]", "evaluate.metrics[0].kk", "unknown field 'kk'; did you mean 'k'?"),
        ("[{name: top, mode: som}]", "evaluate.metrics[0].mode", "did you mean 'sum'?"),
        ("[{name: tap, k: 3}]", "evaluate.metrics[0].name", "did you mean 'top'?"),
        ("[{k: 3}]", "evaluate.metrics[0].name", "`name` of the metric is missing"),
        ("[needy]", "evaluate.metrics[0].beta", "required field is missing: Weight of recall."),
        ("['needy(']", "evaluate.metrics[0]", "an entry is NAME, NAME@K, NAME(FIELD=VALUE, ...)"),
        ("['top(k)']", "evaluate.metrics[0]", "the brackets hold FIELD=VALUE"),
        ("['top(k=[1)']", "evaluate.metrics[0]", "the value of k is neither a word nor JSON"),
        ("['top(k=\"a\" b)']", "evaluate.metrics[0]", "after the value of k a comma or the end is expected"),
        ("[top@5, auc, {name: top, k: 5}]", "evaluate.metrics[2]", "'top@5' is given twice"),
        ("[top, {name: top, k: 20}]", "evaluate.metrics[1]", "'top' is given twice"),
        ("[3]", "evaluate.metrics[0]", "must be text"),
    ],
)
def test_mistakes_are_named(load: Load, entries: str, path: str, part: str) -> None:
    with pytest.raises(SpecError) as caught:
        load(entries)
    (problem,) = caught.value.problems
    assert problem.path == path
    assert part in problem.message
    assert problem.line == 5


def test_texts_are_split_between_entries() -> None:
    assert split_metrics("auc, top@5,rich(sizes=[1, 2], beta=2),a") == [
        "auc",
        "top@5",
        "rich(sizes=[1, 2], beta=2)",
        "a",
    ]
    assert parse_metric("top@5") == ("top", {"k": 5})
    assert parse_metric("x( a = word , b=[1, 2] )") == ("x", {"a": "word", "b": [1, 2]})
    assert parse_metric("x()") == ("x", {})
