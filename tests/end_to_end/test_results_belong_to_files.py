"""A result belongs to its files: replaced, missing and unreadable ones, with a plugin that reads vectors."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from collm.cli.main import call
from collm.component import BuildContext, Component, location_field
from collm.contracts.encoder import EncoderConfig, EncoderData
from collm.errors import DataError, PluginError
from collm.finished import run_folder
from collm.registry import Registry, default_registry, registry_of
from collm.runner import run_spec
from collm.runs.environment import RunOptions
from collm.spec.node import Place
from collm.spec.read import read_text
from collm.spec.resolve import resolve_document


class VectorsConfig(EncoderConfig):
    vectors: Path = location_field(..., description="A number per item.")


class VectorsEncoder(torch.nn.Module):
    gives = frozenset({"scores"})
    user_dim = item_dim = None
    history_items = 0
    reads_earlier_labels = False
    fit_mode = "none"

    def __init__(self, config: VectorsConfig, data: EncoderData) -> None:
        super().__init__()
        numbers = np.load(config.vectors)
        self.register_buffer("number", torch.tensor(np.resize(numbers, data.n_items + 1), dtype=torch.float32))

    def score(self, batch: Any) -> torch.Tensor:
        return self.number[batch.item]


def build(config: VectorsConfig, *, data: EncoderData, context: BuildContext) -> VectorsEncoder:
    return VectorsEncoder(config, data)


@pytest.fixture(scope="module")
def registry() -> Registry:
    component = Component(
        "encoder", "own-numbers", f"{__name__}:build", VectorsConfig, "Numbers of a file.", gives=frozenset({"scores"})
    )
    return registry_of([*default_registry().components(), component])


SPEC = """
name: v
dataset: {name: tiny, n_users: 20, n_items: 40}
encoder: {name: own-numbers, vectors: vectors.npy}
evaluate: {resamples: 0}
"""


def run(folder: Path, registry: Registry) -> dict[str, Any]:
    spec = resolve_document(read_text(SPEC, Place("v.yaml", folder=folder)), registry)
    return run_spec(spec, registry, RunOptions(folder / "runs", folder / "cache", device="cpu", threads=1)).plain()


def save(folder: Path, seed: int) -> None:
    np.save(folder / "vectors.npy", np.random.default_rng(seed).normal(size=41))


def test_replaced_vectors_give_their_own_numbers(tmp_path: Path, registry: Registry) -> None:
    save(tmp_path, 0)
    first = run(tmp_path, registry)
    assert run(tmp_path, registry)["reused"]
    save(tmp_path, 1)
    second = run(tmp_path, registry)
    assert not second["reused"]
    assert second["metrics"] != first["metrics"]
    assert second["run_dir"] != first["run_dir"]
    assert json.loads((Path(first["run_dir"]) / "results.json").read_text())["metrics"] == first["metrics"]
    save(tmp_path, 0)
    back = run(tmp_path, registry)
    assert (back["reused"], back["run_dir"], back["metrics"]) == (True, first["run_dir"], first["metrics"])


def test_unreadable_and_missing_vectors_leave_the_finished_run(tmp_path: Path, registry: Registry) -> None:
    save(tmp_path, 0)
    first = run(tmp_path, registry)
    (tmp_path / "vectors.npy").write_bytes(b"not numbers")
    with pytest.raises(PluginError, match=r"encoder 'own-numbers' .*`build` raised ValueError: .*pickle"):
        run(tmp_path, registry)
    (tmp_path / "vectors.npy").unlink()
    with pytest.raises(DataError, match=r"vectors\.npy: cannot be read"):
        run(tmp_path, registry)
    assert (Path(first["run_dir"]) / "done").is_file()
    save(tmp_path, 0)
    assert run(tmp_path, registry)["metrics"] == first["metrics"]


def test_a_failed_attempt_after_changed_code_leaves_the_finished_run(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 0)
    first = run(tmp_path, registry)
    kept = {path.name: path.read_bytes() for path in Path(first["run_dir"]).iterdir() if path.suffix != ".jsonl"}
    monkeypatch.setattr(type(registry), "code_version", lambda *_: "other code")
    monkeypatch.setattr(VectorsEncoder, "score", lambda self, batch: self.number[batch.item] * float("nan"))
    with caplog.at_level(logging.INFO), pytest.raises(Exception, match=r"."):
        run(tmp_path, registry)
    assert "finished before, but code changed since" in caplog.text
    assert {p.name: p.read_bytes() for p in Path(first["run_dir"]).iterdir() if p.suffix != ".jsonl"} == kept


def test_a_missing_data_file_is_said_where_it_is_named(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{n % 12},{n % 17},{n % 5 + 1},{1_500_000_000 + n * 3600}\n" for n in range(400))
    Path("a.csv").write_text("user,item,rating,timestamp\n" + rows)
    Path("s.yaml").write_text(
        "name: s\ndataset:\n  name: files\n  interactions: a.csv\n"
        "  columns: {user: user, item: item, rating: rating, timestamp: timestamp}\n"
        "  label: {from: rating, positive_above: 3}\n  split: {by: quantiles, valid: 0.2, test: 0.2}\n"
        "encoder: {name: mf, embedding_size: 4, fit: {epochs: 1}}\nevaluate: {resamples: 0}\n"
    )
    assert call(["run", "s.yaml", "--threads", "1", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    Path("a.csv").rename("b.csv")
    for command in (["run", "s.yaml", "--json"], ["validate", "s.yaml"], ["data", "describe", "s.yaml"]):
        assert call(command) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("s.yaml:4:17: dataset.interactions: '")
        assert "a.csv': no such file or folder (did you mean '" in captured.err
    assert call(["report", shown["run_dir"]]) == 0
    capsys.readouterr()
    assert call(["run", "s.yaml", "--set", "dataset.interactions=b.csv", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["reused"], again["run_dir"]) == (True, shown["run_dir"])


def test_run_folders_of_other_contents_have_other_names(tmp_path: Path, registry: Registry) -> None:
    context = BuildContext(tmp_path, find=registry.get)
    names = set()
    for seed in (0, 1, 0):
        save(tmp_path, seed)
        spec = resolve_document(read_text(SPEC, Place("v.yaml", folder=tmp_path)), registry)
        names.add(run_folder(spec, registry, runs_dir=tmp_path, context=context).path.name)
    assert len(names) == 2
