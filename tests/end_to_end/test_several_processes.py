"""`accelerate launch -m collm run` with two processes on the processor: the numbers of one process, written once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest
from generated import command, write_data

from collm.testing.tiny_model import write_tiny_model

BASE = """\
name: tiny
dataset: {name: movielens-small, path: data}
encoder: {name: mf-bias, embedding_size: 4, fit: {epochs: 3, batch_size: 64}}
backbone: {name: tiny, dtype: float32}
prompt: {name: movie}
tuning:
  name: default
  batch_size: 7
  micro_batch_tokens: 256
  max_rows: 100
  lora: {dropout: 0.3}
  text: {epochs: 1, warmup_steps: 2, learning_rate: 0.01}
  collaborative: {epochs: 1, warmup_steps: 2, learning_rate: 0.01}
evaluate: {resamples: 50}
"""
SUITE = """\
name: several
base: base.yaml
runs:
  broken: {dataset.path: garbage}
  float32: {}
  bfloat16: {backbone.dtype: bfloat16}
"""
FOLDER = """\
name: folder
base: base.yaml
runs:
  hf: {backbone: {name: hf, path: model, dtype: float32}}
"""
LAUNCH = [
    "--num_machines",
    "1",
    "--num_processes",
    "2",
    "--main_process_port",
    "0",
    "--mixed_precision",
    "no",
    "--dynamo_backend",
    "no",
]
# On a machine without GPUs this names the launcher, not the device: `--cpu` would start one process.
PLAIN = ["--multi_gpu"]
SHARDED = ["--use_fsdp", "--fsdp_version", "2"]
LIMIT_S = 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with generated MovieLens files, a model folder, a spec and two suites."""
    root = tmp_path_factory.mktemp("several")
    write_data(root / "data")
    # Files that are there and cannot be read: a missing one would stop the suite before its first run.
    (root / "garbage").mkdir()
    for name in ("ratings.csv", "movies.csv"):
        (root / "garbage" / name).write_text("not,a,table\n", encoding="utf-8")
    (root / "model").mkdir()
    write_tiny_model(root / "model")
    for name, content in (("base", BASE), ("suite", SUITE), ("folder", FOLDER)):
        (root / f"{name}.yaml").write_text(content, encoding="utf-8")
    return root


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ACCELERATE_", "FSDP_"))}
    # No accelerate settings of whoever runs the tests.
    return {**kept, "HF_HOME": str(folder / "hf"), "COLLM_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}


def launched(kind: list[str], *arguments: str) -> list[str]:
    launcher = [sys.executable, "-m", "accelerate.commands.launch", *kind, *LAUNCH, "-m", "collm"]
    return [*launcher, "run", *arguments]


def call(folder: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False, timeout=LIMIT_S
    )


def runs_of(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {result["run"]: result for result in json.loads(done.stdout)["runs"]}


def scores(folder: Path, result: dict[str, Any]) -> pl.DataFrame:
    return pl.read_parquet(folder / result["run_dir"] / "scores.parquet")


@pytest.fixture(scope="module")
def alone(folder: Path) -> subprocess.CompletedProcess[str]:
    return call(folder, command("run", "suite.yaml", "--runs-dir", "alone", "--json"))


@pytest.fixture(scope="module")
def together(folder: Path) -> subprocess.CompletedProcess[str]:
    return call(folder, launched(PLAIN, "suite.yaml", "--runs-dir", "together", "--json"))


def test_a_run_that_fails_is_named_once_and_the_others_go_on(
    alone: subprocess.CompletedProcess[str], together: subprocess.CompletedProcess[str]
) -> None:
    assert (alone.returncode, together.returncode) == (1, 1)
    for done in (alone, together):
        assert list(json.loads(done.stdout)["failed"]) == ["broken"], done.stderr
        assert list(runs_of(done)) == ["float32", "bfloat16"]
    assert together.stderr.count("several: run 1 of 3") == 1
    said = [line for line in together.stderr.splitlines() if "broken failed" in line]
    assert said == [line for line in alone.stderr.splitlines() if "broken failed" in line]


def test_the_score_file_holds_every_row_once_with_the_scores_of_one_process(
    folder: Path, alone: subprocess.CompletedProcess[str], together: subprocess.CompletedProcess[str]
) -> None:
    one, two = scores(folder, runs_of(alone)["float32"]), scores(folder, runs_of(together)["float32"])
    assert two.drop("logit", "score").equals(one.drop("logit", "score"))
    assert not two.select("split", "row").is_duplicated().any()
    assert one["score"].std() > 1e-3
    assert (one["score"] - two["score"]).abs().max() <= 1e-5
    assert runs_of(alone)["float32"]["metrics"] == runs_of(together)["float32"]["metrics"]


def test_metrics_in_half_precision(
    alone: subprocess.CompletedProcess[str], together: subprocess.CompletedProcess[str]
) -> None:
    for part in ("valid", "test"):
        one, two = (runs_of(done)["bfloat16"]["metrics"][part]["all"] for done in (alone, together))
        for name in one:
            assert two[name]["value"] == pytest.approx(one[name]["value"], abs=1e-3)
            assert two[name]["n"] == one[name]["n"]


def test_files_are_written_by_one_process(
    folder: Path, alone: subprocess.CompletedProcess[str], together: subprocess.CompletedProcess[str]
) -> None:
    names = [{path.relative_to(folder / root) for path in (folder / root).rglob("*")} for root in ("alone", "together")]
    assert names[0] == names[1]
    one, two = runs_of(alone)["float32"], runs_of(together)["float32"]
    assert (one["facts"]["tune_1"]["processes"], two["facts"]["tune_1"]["processes"]) == (1, 2)
    written = json.loads((folder / two["run_dir"] / "environment.json").read_text())
    assert (written["processes"], written["sharded_weights"]) == (2, False)
    events = [
        [(event["event"], event.get("stage"), event.get("step")) for event in read_events(folder / each["run_dir"])]
        for each in (one, two)
    ]
    assert events[0] == events[1]


def read_events(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]


def test_a_wrong_spec_is_said_once(folder: Path) -> None:
    done = call(folder, launched(PLAIN, "base.yaml", "--set", "encoder.name=mf-bais"))
    assert done.returncode != 0
    assert done.stderr.count("unknown encoder 'mf-bais'") == 1
    assert done.stdout == ""


@pytest.mark.slow
def test_split_weights_give_the_same_scores(folder: Path) -> None:
    one = call(folder, command("run", "folder.yaml", "--runs-dir", "alone", "--json"))
    two = call(folder, launched(SHARDED, "folder.yaml", "--runs-dir", "sharded", "--json"))
    assert two.returncode == 0, two.stderr
    result = runs_of(two)["hf"]
    assert json.loads((folder / result["run_dir"] / "environment.json").read_text())["sharded_weights"]
    first, second = scores(folder, runs_of(one)["hf"]), scores(folder, result)
    assert second.drop("logit", "score").equals(first.drop("logit", "score"))
    assert (first["score"] - second["score"]).abs().max() <= 1e-5


@pytest.mark.slow
def test_when_one_process_is_killed_all_end_and_the_run_can_be_continued(folder: Path) -> None:
    words = launched(PLAIN, "base.yaml", "--set", "tuning.checkpoint_seconds=0", "--json", "--runs-dir")
    whole = call(folder, [*words, "whole"])
    assert whole.returncode == 0, whole.stderr
    launcher = subprocess.Popen(
        [*words, "killed"],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list((folder / "killed").glob("stages/tune_1-*/checkpoint*")):
        with pytest.raises(subprocess.TimeoutExpired):
            launcher.wait(timeout=0.05)
    workers = {each.environ()["RANK"]: each for each in psutil.Process(launcher.pid).children()}
    workers["1"].send_signal(signal.SIGKILL)
    _, stderr = launcher.communicate(timeout=LIMIT_S)
    assert launcher.returncode != 0
    assert not any(worker.is_running() for worker in workers.values())
    assert "unexpected" not in stderr
    assert list((folder / "killed").glob("*/done")) == []
    assert list((folder / "killed").rglob("lock")) == []
    again = call(folder, [*words, "killed"])
    assert again.returncode == 0, again.stderr
    first, second = (scores(folder, json.loads(done.stdout)) for done in (whole, again))
    assert second.equals(first)
