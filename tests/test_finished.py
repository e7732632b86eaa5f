"""A finished run is shown again only for the same code and the same files."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from collm import finished
from collm.component import BuildContext, Component, component_field, location_field
from collm.contracts.backbone import BackboneConfig
from collm.contracts.data import DatasetConfig
from collm.contracts.encoder import EncoderConfig
from collm.errors import DataError
from collm.finished import input_hashes, stored_outcome, used_plugins
from collm.plugins import PluginStatus
from collm.registry import default_registry, registry_of
from collm.runs.records import RunResults
from collm.runs.store import RunFolder

RESULTS = {
    "schema": 1, "name": "r", "run": "r", "spec_hash": "abc", "seed": 0, "profile": "recommended", "metrics": {},
    "inputs": {"code": "1", "dataset": "2"},
}  # fmt: skip


class Spec:
    name, spec_hash = "r", "abc"


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = RunFolder(tmp_path, "r", "abc")
    folder.write_results(RunResults.check(RESULTS, place="results.json"))

    def asking(now: dict[str, str] | DataError, *, done: bool = True):
        def hashes(*_):
            if isinstance(now, DataError):
                raise now
            return now

        monkeypatch.setattr(finished, "input_hashes", hashes)
        if done:
            folder.write_done()
        return stored_outcome(Spec(), registry_of([]), folder=folder, context=BuildContext(tmp_path), run="key")

    return asking


def test_the_same_inputs_give_the_stored_results_under_the_asked_key(ask) -> None:
    outcome = ask({"code": "1", "dataset": "2"})
    assert (outcome.results.run, outcome.reused, outcome.results.seed) == ("key", True, 0)


def test_an_unfinished_run_has_no_outcome(ask) -> None:
    assert ask({"code": "1", "dataset": "2"}, done=False) is None


@pytest.mark.parametrize(
    ("now", "said"),
    [({"code": "9", "dataset": "2"}, "code"), ({"code": "9", "dataset": "9"}, "code and dataset")],
)
def test_changed_inputs_are_named_and_worked_on_again(ask, caplog, now, said) -> None:
    with caplog.at_level(logging.INFO):
        assert ask(now) is None
    assert f"key: finished before, but {said} changed since" in caplog.text


def test_missing_files_are_an_error_before_anything_is_shown(ask) -> None:
    with pytest.raises(DataError, match="no such folder"):
        ask(DataError("no such folder"))


def test_a_damaged_run_is_named_and_made_again(ask, caplog, tmp_path: Path) -> None:
    assert ask({"code": "1", "dataset": "2"}) is not None
    path = tmp_path / "r-abc" / "results.json"
    path.write_bytes(path.read_bytes().replace(b"recommended", b"Recommended"))
    assert ask({"code": "1", "dataset": "2"}, done=False) is None
    assert f"key: {path}: damaged: its contents are not those that were written; the run is repeated" in caplog.text


class StoredConfig(BackboneConfig):
    folder: Path | None = location_field(description="Where the weights lie.")


class ReadingConfig(EncoderConfig):
    text: BackboneConfig = component_field("backbone", description="Reads titles.")


class Content:
    def __init__(self, content: str) -> None:
        self.content_hash = lambda: content


def build_dataset(config: DatasetConfig, *, context: BuildContext) -> Content:
    return Content("rows")


def test_files_of_a_component_inside_the_encoder_count(tmp_path: Path) -> None:
    registry = registry_of(
        [
            Component("dataset", "rows", f"{__name__}:build_dataset", DatasetConfig, "Rows."),
            Component("backbone", "stored", f"{__name__}:none", StoredConfig, "Weights in a folder."),
            Component("encoder", "reading", f"{__name__}:none", ReadingConfig, "Reads.", gives=frozenset({"scores"})),
        ]
    )

    def hashes(folder: Path | None) -> dict[str, str]:
        encoder = ReadingConfig(name="reading", text=StoredConfig(name="stored", folder=folder))
        dataset = DatasetConfig(name="rows")
        used = [("dataset", "dataset", dataset), ("encoder", "encoder", encoder)]
        spec = SimpleNamespace(
            dataset=dataset,
            evaluate=SimpleNamespace(metrics=(), ranking=None, protocol="split"),
            components=lambda: iter(used),
        )
        return input_hashes(spec, registry, BuildContext(tmp_path))

    (tmp_path / "weights").write_text("one", encoding="utf-8")
    first = hashes(tmp_path)
    assert first == {**hashes(None), "encoder.text.folder": first["encoder.text.folder"]}
    (tmp_path / "weights").write_text("two", encoding="utf-8")
    second = hashes(tmp_path)
    assert {name for name in first if first[name] != second[name]} == {"encoder.text.folder"}


def test_plugins_in_use_are_those_of_components_and_of_trackers(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = default_registry()
    dataset = SimpleNamespace(name="movielens-small")
    spec = SimpleNamespace(
        evaluate=SimpleNamespace(metrics=["auc"], ranking=None),
        components=lambda: iter([("dataset", "dataset", dataset)]),
    )
    monkeypatch.setattr(finished, "inner_components", lambda _: ())
    ours = used_plugins(spec, registry)["collm"]
    floors = {f"encoder {floor.name}" for floor in registry.floors()}
    assert set(ours["components"]) == {"dataset movielens-small", "metric auc", *floors}
    assert ours["version"]

    def stranger(name: str, hooks: tuple[str, ...], *, ok: bool = True) -> PluginStatus:
        return PluginStatus(name, f"collm-{name}", "1.2", ok=ok, cause="", traceback="", module=name, hooks=hooks)

    statuses = (
        *registry.host.statuses,
        stranger("tracker", ("run_started",)),
        stranger("unused", ("register_encoders",)),
        stranger("broken", ("run_started",), ok=False),
    )
    more = replace(registry, host=replace(registry.host, statuses=statuses))
    assert set(used_plugins(spec, more)) == {"collm", "collm-tracker"}
    assert used_plugins(spec, more)["collm-tracker"] == {"version": "1.2", "components": {}}


def test_components_of_rankings_count_where_there_are_rankings() -> None:
    registry = default_registry()
    plain = SimpleNamespace(evaluate=SimpleNamespace(metrics=["auc"], ranking=None), components=lambda: iter(()))
    ranking = SimpleNamespace(metrics=["mrr"])
    ranked = SimpleNamespace(evaluate=SimpleNamespace(metrics=["auc"], ranking=ranking), components=lambda: iter(()))
    more = set(finished.used_components(ranked, registry)) - set(finished.used_components(plain, registry))
    floors = {("encoder", floor.name) for floor in registry.ranking_floors()}
    assert more == {("metric", "mrr"), *floors}
    assert len(floors) == 3
