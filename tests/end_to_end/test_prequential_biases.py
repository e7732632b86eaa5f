"""Prequential runs of biases: what their numbers belong to, and what other commands make of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from generated import call, collm, write_data

BIASES = """\
name: biases
seed: 0
dataset: {name: movielens-small, path: data, split: global-time}
encoder: {name: mf-bias, embedding_size: 4, fit: {epochs: 2, batch_size: 64}}
evaluate: {resamples: 20, protocol: prequential, window: 30 rows, policy: encoder}
"""
STILL = "evaluate.policy=frozen"
ENSEMBLE = """\
name: mix
base:
  seed: 0
  dataset: {name: movielens-small, path: data, split: global-time}
  encoder: {name: mf-bias, embedding_size: 4, fit: {epochs: 2, batch_size: 64}}
  evaluate: {resamples: 20, protocol: prequential, window: 30 rows, policy: encoder}
runs:
  still: {evaluate.policy: frozen}
  moving: {}
ensembles:
  mean: [still, moving]
"""
STUDY = """\
name: sizes
base: biases.yaml
study:
  objective: valid.auc
  trials: 2
  sampler: {name: random, seed: 0}
  from_runs: [runs]
  search:
    encoder.embedding_size: {choices: [2, 4]}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("biases")
    write_data(root / "data")
    (root / "biases.yaml").write_text(BIASES, encoding="utf-8")
    for name, setting in (("moving", "seed=0"), ("still", STILL)):
        collm(root, "run", "biases.yaml", "--set", f"name={name}", "--set", setting)
    return root


def folder(root: Path, name: str) -> Path:
    (found,) = (root / "runs").glob(f"{name}-*")
    return found


def results(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "results.json").read_text(encoding="utf-8"))
    return found


def test_other_labels_of_the_same_rows_give_other_metrics_by_window(root: Path) -> None:
    """The labels of the last window decide no logit of biases."""
    last = results(folder(root, "moving"))["windows"][-1]
    lines = (root / "data" / "ratings.csv").read_text(encoding="utf-8").splitlines()
    table = [line.split(",") for line in lines[1:]]
    for row in table:
        if int(row[3]) >= last["first"]:
            row[2] = "1" if int(row[2]) > 3 else "5"
    (root / "other").mkdir()
    (root / "other" / "ratings.csv").write_text("\n".join([lines[0], *map(",".join, table)]) + "\n", encoding="utf-8")
    shutil.copy(root / "data" / "movies.csv", root / "other")
    collm(root, "run", "biases.yaml", "--set", "name=relabelled", "--set", "dataset.path=other")
    found = results(folder(root, "relabelled"))["windows"][-1]
    for name in ("metrics", "frozen"):
        assert found[name]["auc"]["value"] == pytest.approx(1 - last[name]["auc"]["value"], abs=1e-9)


def test_an_updated_encoder_sees_the_evaluation_period(root: Path) -> None:
    """So reports hold it against the floors that see it, too."""
    assert results(folder(root, "moving"))["protocol"]["sees_earlier_rows"]
    assert not results(folder(root, "still"))["protocol"]["sees_earlier_rows"]


def test_commands_on_a_run_say_that_its_updates_are_not_part_of_the_model(root: Path) -> None:
    (root / "pairs.csv").write_text("user,item\n1,2\n", encoding="utf-8")
    later = "user,item,rating,timestamp\n1,2,5,2000000\n2,3,1,2000001\n"
    (root / "later.csv").write_text(later, encoding="utf-8")
    moving, still = folder(root, "moving").name, folder(root, "still").name
    said = "the model that training made, without those updates"
    assert said in " ".join(call(root, "score", moving, "pairs.csv").stderr.split())
    assert said not in " ".join(call(root, "score", still, "pairs.csv").stderr.split())
    collm(root, "update", moving, "later.csv", "-o", "runs/later", "--policy", "frozen")
    notes = results(root / "runs" / "later")["notes"]
    said = "what its prequential evaluation updated before each window is not part of it"
    assert sum(said in each for each in notes) == 1
    assert not any("test is scored in" in each for each in notes)


def test_an_ensemble_has_no_windows_and_says_how_its_members_were_updated(root: Path) -> None:
    (root / "mix.yaml").write_text(ENSEMBLE, encoding="utf-8")
    collm(root, "run", "mix.yaml")
    path = folder(root, "mix-mean")
    assert not {"window", "frozen_logit"}.intersection(pl.read_parquet(path / "scores.parquet").columns)
    notes = [each for each in results(path)["notes"] if "Prequential" in each]
    assert [each.partition(":")[0] for each in notes] == ["still", "moving"]
    assert results(path)["protocol"]["sees_earlier_rows"]


def test_trials_of_a_study_are_not_updated(root: Path) -> None:
    """They score validation rows, which no window changes; so finished runs are trials whatever they updated."""
    (root / "study.yaml").write_text(STUDY, encoding="utf-8")
    shown = call(root, "study", "study.yaml")
    assert shown.returncode == 0, shown.stderr
    assert "finished runs taken in as trials" in shown.stderr
    assert "0 finished runs taken in" not in shown.stderr
