"""A raised version does again what depends on it, and nothing else; a release does nothing again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import collm
from collm.component import Component
from collm.registry import Registry, default_registry
from collm.runner import run_spec
from collm.runs.environment import RunOptions
from collm.spec.resolve import load_spec
from collm.stages import versions

SPEC = """
name: v
dataset: {name: tiny, n_users: 20, n_items: 40}
encoder: {name: mf-bias, embedding_size: 4, fit: {epochs: 2, batch_size: 64}}
backbone: {name: tiny, dtype: float32}
prompt: {name: movie}
tuning:
  name: default
  max_rows: 16
  batch_size: 8
  text: {epochs: 1, warmup_steps: 0}
  collaborative: {epochs: 1, warmup_steps: 0}
evaluate: {splits: [test], resamples: 0}
"""
STAGES = ("prepare_data", "fit_encoder", "tune_1", "tune_2", "evaluate")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("versions")
    (folder / "v.yaml").write_text(SPEC, encoding="utf-8")
    first = run(folder, default_registry())
    assert not any(reused(first).values())
    return folder


def run(folder: Path, registry: Registry) -> dict[str, Any]:
    spec = load_spec(folder / "v.yaml", [], registry, cwd=folder)
    return run_spec(spec, registry, RunOptions(folder / "runs", folder / "cache", device="cpu", threads=1)).plain()


def reused(result: Mapping[str, Any]) -> dict[str, bool]:
    return {name: bool(result["timing"][name]["reused"]) for name in STAGES}


def with_component(registry: Registry, kind: str, name: str) -> Registry:
    """The same components, one of them of another version."""

    def raised(component: Component) -> Component:
        is_it = (component.kind, component.name) == (kind, name)
        return dataclasses.replace(component, version=99) if is_it else component

    entries = {key: (raised(component), status) for key, (component, status) in registry._entries.items()}
    return Registry(registry.host, entries)


@pytest.mark.parametrize(
    ("stage", "done_again"),
    [
        ("prepare_data", set(STAGES)),
        ("fit_encoder", {"fit_encoder", "tune_2", "evaluate"}),
        ("tune", {"tune_1", "tune_2", "evaluate"}),
        ("evaluate", {"evaluate"}),
        ("metrics", {"evaluate"}),
        ("results", set()),
    ],
)
def test_a_stages_version(finished: Path, monkeypatch: pytest.MonkeyPatch, stage: str, done_again: set[str]) -> None:
    other = dataclasses.replace(versions.STAGES[stage], version=99)
    monkeypatch.setattr(versions, "STAGES", {**versions.STAGES, stage: other})
    again = run(finished, default_registry())
    assert {name for name, was in reused(again).items() if not was} == done_again


@pytest.mark.parametrize(
    ("kind", "name", "done_again"),
    [
        ("dataset", "tiny", set(STAGES)),
        ("encoder", "mf-bias", {"fit_encoder", "tune_2", "evaluate"}),
        ("encoder", "din", set()),
        ("backbone", "tiny", {"tune_1", "tune_2", "evaluate"}),
        ("prompt", "movie", set()),
        ("metric", "auc", {"evaluate"}),
    ],
)
def test_a_components_version(finished: Path, kind: str, name: str, done_again: set[str]) -> None:
    again = run(finished, with_component(default_registry(), kind, name))
    assert {stage for stage, was in reused(again).items() if not was} == done_again


def test_a_release_does_nothing_again(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(finished, default_registry())
    monkeypatch.setattr(collm, "__version__", "99.0")
    again = run(finished, default_registry())
    assert again["reused"] is True
