"""Every tuning strategy on tiny checkpoints of the paper's two architectures, through the real command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from generated import call, write_data
from model_folders import write_llama, write_qwen2
from safetensors.numpy import load_file

STEP = "{epochs: 1, warmup_steps: 1, validations_per_epoch: 1}"
BASE = """\
name: BACKBONE
seed: 0
dataset: {name: movielens-small, path: data, limit: {valid: 40, test: 60}}
history: {max_items: 3}
encoder: {name: mf-bias, embedding_size: 4, fit: {epochs: 2, batch_size: 64}}
backbone: {name: BACKBONE, path: BACKBONE, dtype: float32}
prompt: {name: movie}
tuning:
  name: default
  batch_size: 4
  max_rows: 16
  text: STEP
  collaborative: STEP
evaluate: {resamples: 20}
""".replace("STEP", STEP)
SUITE = """\
name: strategies-BACKBONE
base: BACKBONE.yaml
runs:
  icl: {encoder: null, tuning: {name: none}}
  text-only: {encoder: null, tuning: {name: text-only, SIZE, text: &step STEP}}
  default: {}
  t1: {tuning: {name: t1, SIZE, text: *step, collaborative: *step}}
  t2: {tuning: {name: t2, SIZE, text: *step, collaborative: *step}}
  t3: {tuning: &joint {name: t3, SIZE, max_valid_rows: 12, text: *step, collaborative: *step}}
  held-out: {tuning.collaborative.rows: held-out}
  ui-token: {encoder: {name: id-tokens}}
  prompt4nr: {encoder: {name: soft-prompt}, tuning: *joint}
""".replace("SIZE", "batch_size: 4, max_rows: 16").replace("STEP", STEP)
WRITERS = {"vicuna-7b": write_llama, "qwen2-1.5b": write_qwen2}


@pytest.fixture(scope="module", params=WRITERS)
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder and the results of all runs by key."""
    name = request.param
    root = tmp_path_factory.mktemp("strategies")
    write_data(root / "data")
    (root / name).mkdir()
    WRITERS[name](root / name)
    (root / f"{name}.yaml").write_text(BASE.replace("BACKBONE", name), encoding="utf-8")
    (root / "suite.yaml").write_text(SUITE.replace("BACKBONE", name), encoding="utf-8")
    done = call(root, "run", "suite.yaml", "--runs-dir", "runs", "--threads", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert "GB of memory at most" in done.stderr
    return root, {run["run"]: run for run in json.loads(done.stdout)["runs"]}


def stage(root: Path, run: dict[str, Any], name: str) -> Path:
    return root / "runs" / "stages" / f"{name}-{run['stages'][name]}"


def test_every_system_gives_scores_of_every_row(finished: tuple[Path, dict[str, Any]]) -> None:
    root, runs = finished
    assert set(runs) == {"icl", "text-only", "default", "t1", "t2", "t3", "held-out", "ui-token", "prompt4nr"}
    rows = [pl.read_parquet(root / run["run_dir"] / "scores.parquet")["row"].to_list() for run in runs.values()]
    assert all(each == rows[0] for each in rows)
    assert all(run["metrics"]["test"]["all"]["auc"]["value"] is not None for run in runs.values())


def test_the_text_step_is_computed_once(finished: tuple[Path, dict[str, Any]]) -> None:
    _, runs = finished
    shared = [runs[key]["stages"]["tune_1"] for key in ("text-only", "default", "t1", "t2", "held-out", "ui-token")]
    assert len(set(shared)) == 1
    assert sum(not runs[key]["timing"]["tune_1"]["reused"] for key in ("text-only", "default", "t1", "t2")) == 1
    assert runs["t3"]["stages"]["tune_1"] not in shared


def test_only_what_trains_is_written(finished: tuple[Path, dict[str, Any]]) -> None:
    root, runs = finished
    written = {
        key: {path.stem for path in stage(root, runs[key], step).glob("*.safetensors")}
        for key, step in (("default", "tune_1"), ("default", "tune_2"), ("t1", "tune_2"), ("t3", "tune_1"))
        if (key, step) != ("default", "tune_1")
    }
    assert {path.stem for path in stage(root, runs["default"], "tune_1").glob("*.safetensors")} >= {"lora"}
    groups = {"lora", "projector", "encoder"}
    assert {key: names & groups for key, names in written.items()} == {
        "default": {"projector"},
        "t1": {"projector", "encoder"},
        "t3": {"lora", "projector"},
    }


def test_t1_starts_from_the_fitted_encoder_and_t2_from_scratch(finished: tuple[Path, dict[str, Any]]) -> None:
    root, runs = finished
    fitted = load_file(stage(root, runs["t1"], "fit_encoder") / "encoder.safetensors")["item_bias.weight"]
    moved = {key: load_file(stage(root, runs[key], "tune_2") / "encoder.safetensors") for key in ("t1", "t2")}
    distance = {key: float(abs(state["item_bias.weight"] - fitted).max()) for key, state in moved.items()}
    assert 0 < distance["t1"] < 0.02
    assert distance["t2"] > distance["t1"]


def test_t2_fits_no_encoder(finished: tuple[Path, dict[str, Any]]) -> None:
    root, runs = finished
    assert "fit_encoder" in runs["t1"]["stages"]
    assert "fit_encoder" not in runs["t2"]["stages"]
    assert "fit_encoder" not in runs["t2"]["timing"]
    assert "encoder" not in runs["t2"]["facts"]
    said = " ".join(runs["t2"]["notes"])
    assert "; the encoder was not fitted before, tuning trains it from initial weights." in said
    assert "the encoder and floors were fitted on all" in " ".join(runs["t1"]["notes"])
    assert "encoder" not in " ".join(each for each in runs["text-only"]["notes"] if "The language model" in each)
    (root / "pairs.csv").write_text("user,item\n1,1\n2,3\n", encoding="utf-8")
    done = call(root, "score", str(root / runs["t2"]["run_dir"]), "pairs.csv")
    assert done.returncode == 0, done.stderr
    assert pl.read_csv(done.stdout.encode()).height == 2


def test_rows_that_select_are_told_where_they_are_few(finished: tuple[Path, dict[str, Any]]) -> None:
    _, runs = finished
    n_valid = runs["t3"]["counts"]["valid"]
    (said,) = (note for note in runs["t3"]["notes"] if "selected on" in note)
    n_read = int(said.removeprefix("The best weights were selected on ").partition(" ")[0])
    assert 12 <= n_read < n_valid and said.endswith(f" of {n_valid} validation rows.")
    assert not any("selected on" in note for note in runs["default"]["notes"])


def test_held_out_rows_are_told(finished: tuple[Path, dict[str, Any]]) -> None:
    _, runs = finished
    assert runs["held-out"]["stages"]["fit_encoder"] != runs["default"]["stages"]["fit_encoder"]
    assert any("the encoder was fitted on the earliest" in note for note in runs["held-out"]["notes"])
