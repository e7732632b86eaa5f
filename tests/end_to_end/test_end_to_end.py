"""The real command line on generated data and the tiny backbone: runs, reuse, interruption, resume."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest
from generated import command, write_data

from collm.runs.records import RunOutcome, RunResults

SPEC = """\
name: tiny
dataset: {name: movielens-small, path: data}
encoder: {name: mf-bias, embedding_size: 4, fit: {epochs: 3, batch_size: 64}}
backbone: {name: tiny, dtype: float32}
prompt: {name: movie}
tuning:
  name: default
  batch_size: 4
  checkpoint_seconds: 0
  text: {epochs: 1, warmup_steps: 2}
  collaborative: {epochs: 1, warmup_steps: 2}
evaluate: {resamples: 50}
"""
SUITE = """\
name: tiny-suite
base: tiny.yaml
runs:
  mf-bias: {backbone: null, prompt: null, tuning: null}
  collm: {}
"""
FIVE_MISTAKES = """\
name: tiny
dataset: {name: movielens-small, limt: {test: 3}}
encoder: {name: mf-bais}
backbone: {name: tiny, dtype: float8}
prompt: {name: movie}
tuning: {name: default, text: {epochs: -1}}
evalute: {splits: [test]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with generated MovieLens files, a spec and a suite."""
    root = tmp_path_factory.mktemp("end-to-end")
    write_data(root / "data")
    (root / "tiny.yaml").write_text(SPEC, encoding="utf-8")
    (root / "suite.yaml").write_text(SUITE, encoding="utf-8")
    return root


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "COLLM_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}


def collm(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=folder, env=environment(folder), capture_output=True, text=True, check=False
    )


def run_json(folder: Path, *arguments: str) -> dict[str, Any]:
    done = collm(folder, "run", *arguments, "--threads", "1", "--json")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.fixture(scope="module")
def uninterrupted(folder: Path) -> dict[str, Any]:
    return run_json(folder, "tiny.yaml", "--runs-dir", "runs")


def scores(folder: Path, result: dict[str, Any]) -> pl.DataFrame:
    return pl.read_parquet(folder / result["run_dir"] / "scores.parquet")


def test_results_have_the_documented_form(folder: Path, uninterrupted: dict[str, Any]) -> None:
    RunResults.check(uninterrupted, place="stdout")
    assert set(uninterrupted["metrics"]) == {"valid", "test"}
    assert set(uninterrupted["metrics"]["test"]) == {"all", "warm", "cold"}
    floors = {"item-mean", "item-user-mean", "bias-logistic", "online-user-item", "recent-logistic"}
    assert set(uninterrupted["floors"]["test"]["all"]) == floors
    assert {"prepare_data", "fit_encoder", "tune_1", "tune_2", "evaluate"} <= set(uninterrupted["timing"])
    probe = uninterrupted["facts"]["backbone"]["probe"]
    assert probe["shares"] is True
    assert probe["gap_shared"] < probe["allowed"]
    run_dir = folder / uninterrupted["run_dir"]
    names = {path.name for path in run_dir.iterdir()}
    documented = {"spec.yaml", "environment.json", "events.jsonl", "results.json", "scores.parquet", "floors.parquet"}
    assert names == documented | {"done"}
    assert json.loads((run_dir / "results.json").read_text())["metrics"] == uninterrupted["metrics"]
    environment = json.loads((run_dir / "environment.json").read_text())
    assert {"python", "platform", "packages", "processor", "cores", "memory_gb", "processes"} <= set(environment)
    assert environment["command"][:3] == ["collm", "run", "tiny.yaml"]
    assert set(environment["contents"]) == {"dataset", "backbone"}
    assert environment["contents"]["dataset"] == uninterrupted["inputs"]["dataset"]
    used = environment["plugins"]["collm"]["components"]
    assert {"dataset movielens-small", "backbone tiny", "metric auc", "encoder item-mean"} <= set(used)


def test_scores_have_the_documented_columns(folder: Path, uninterrupted: dict[str, Any]) -> None:
    frame = scores(folder, uninterrupted)
    columns = ["split", "row", "user", "item", "label", "logit", "score", "user_train_rows", "item_train_rows"]
    assert frame.columns[: len(columns)] == columns
    assert {"all", "warm", "cold"} <= set(frame.columns)
    assert frame["score"].is_between(0, 1).all()
    n_test = uninterrupted["counts"]["test"]
    assert frame.filter(pl.col("split") == "test").height == n_test


def test_second_run_does_no_work_and_says_so(folder: Path, uninterrupted: dict[str, Any]) -> None:
    before = {path: path.stat().st_mtime_ns for path in (folder / "runs").rglob("*")}
    done = collm(folder, "run", "tiny.yaml", "--runs-dir", "runs", "--threads", "1", "--json")
    assert done.returncode == 0
    assert "nothing was run" in done.stderr
    assert json.loads(done.stdout)["metrics"] == uninterrupted["metrics"]
    assert {path: path.stat().st_mtime_ns for path in (folder / "runs").rglob("*")} == before


def test_written_spec_repeats_the_run(folder: Path, uninterrupted: dict[str, Any]) -> None:
    again = run_json(folder, str(Path(uninterrupted["run_dir"]) / "spec.yaml"), "--runs-dir", "runs")
    assert again["spec_hash"] == uninterrupted["spec_hash"]
    assert again["run_dir"] == uninterrupted["run_dir"]


def test_other_runs_directory_shares_no_stage(folder: Path, uninterrupted: dict[str, Any]) -> None:
    other = run_json(folder, "tiny.yaml", "--runs-dir", "other")
    assert {name for name, stage in other["timing"].items() if stage["reused"]} == set()
    assert scores(folder, other).equals(scores(folder, uninterrupted))


def test_suite_reuses_stages_and_prints_one_table(folder: Path, uninterrupted: dict[str, Any]) -> None:
    answer = run_json(folder, "suite.yaml", "--runs-dir", "runs")
    assert all(RunOutcome.of(each).plain() == each for each in answer["runs"])
    assert [result["run"] for result in answer["runs"]] == ["mf-bias", "collm"]
    collm_run = answer["runs"][1]
    assert collm_run["metrics"] == uninterrupted["metrics"]
    table = collm(folder, "run", "suite.yaml", "--runs-dir", "runs")
    assert table.returncode == 0
    for words in ("item-mean", "mf-bias", "collm", "test, warm rows", collm_run["run_dir"]):
        assert words in table.stdout
    assert "\x1b" not in table.stdout


class Stopped:
    """A run that is stopped as soon as its tuning has left a checkpoint."""

    def __init__(self, folder: Path, runs_dir: str, stage: str) -> None:
        self.process = subprocess.Popen(
            command("run", "tiny.yaml", "--runs-dir", runs_dir, "--threads", "1"),
            cwd=folder,
            env=environment(folder),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._folder, self._runs_dir, self._stage = folder, runs_dir, stage

    def wait_for_checkpoint(self) -> None:
        pattern = f"stages/{self._stage}-*/checkpoint*"
        for _ in self._pulse():
            if list((self._folder / self._runs_dir).glob(pattern)):
                return
        pytest.fail("the run ended before it left a checkpoint:\n" + "".join(self.lines))

    def _pulse(self) -> Iterator[None]:
        """Comes round a few times a second for as long as the process lives."""
        while True:
            try:
                self.process.wait(timeout=0.02)
            except subprocess.TimeoutExpired:
                yield
            else:
                return

    def stop(self, number: signal.Signals) -> str:
        self.process.send_signal(number)
        _, stderr = self.process.communicate(timeout=60)
        return stderr


@pytest.mark.parametrize("stage", [pytest.param("tune_1", marks=pytest.mark.slow), "tune_2"])
def test_killed_run_continues_and_ends_with_the_same_scores(
    folder: Path, uninterrupted: dict[str, Any], stage: str
) -> None:
    runs_dir = f"killed-{stage}"
    run = Stopped(folder, runs_dir, stage)
    run.wait_for_checkpoint()
    run.stop(signal.SIGKILL)
    assert list((folder / runs_dir).glob("*/done")) == []
    again = run_json(folder, "tiny.yaml", "--runs-dir", runs_dir)
    assert again["timing"]["prepare_data"]["reused"]
    assert again["timing"]["fit_encoder"]["reused"]
    assert again["metrics"] == uninterrupted["metrics"]
    assert scores(folder, again).equals(scores(folder, uninterrupted))
    assert list((folder / runs_dir).rglob("*.tmp")) == []
    assert list((folder / runs_dir).rglob("lock")) == []


def test_interrupted_run_says_how_to_continue(folder: Path, uninterrupted: dict[str, Any]) -> None:
    run = Stopped(folder, "interrupted", "tune_1")
    run.wait_for_checkpoint()
    stderr = run.stop(signal.SIGINT)
    assert run.process.returncode == 130
    assert stderr.endswith("interrupted; the same command continues from the last checkpoint\n")
    assert "Traceback" not in stderr
    again = run_json(folder, "tiny.yaml", "--runs-dir", "interrupted")
    assert scores(folder, again).equals(scores(folder, uninterrupted))


def test_a_run_that_another_process_holds_is_waited_for(folder: Path, uninterrupted: dict[str, Any]) -> None:
    name = Path(uninterrupted["run_dir"]).name
    held = folder / "held" / name
    held.mkdir(parents=True)
    me = psutil.Process()
    holder = {"pid": me.pid, "host": socket.gethostname(), "start": me.create_time()}
    (held / "lock").write_text(json.dumps(holder), encoding="utf-8")
    command = [sys.executable, "-m", "collm", "run", "tiny.yaml", "--runs-dir", "held"]
    waiting = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert waiting.stderr is not None
    assert f"waiting for pid {me.pid}" in waiting.stderr.readline()
    (held / "lock").unlink()
    waiting.communicate(timeout=300)
    assert waiting.returncode == 0
    assert (held / "done").is_file()


def test_five_mistakes_are_one_report(folder: Path) -> None:
    (folder / "bad.yaml").write_text(FIVE_MISTAKES, encoding="utf-8")
    done = collm(folder, "run", "bad.yaml")
    assert done.returncode == 2
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("bad.yaml:")]
    assert sorted(int(line.split(":")[1]) for line in lines) == [2, 3, 4, 6, 7]
    for hint in ("limit", "mf-bias", "float32", "epochs", "evaluate"):
        assert hint in done.stderr


def test_missing_data_says_what_to_do(folder: Path) -> None:
    done = collm(folder, "run", "tiny.yaml", "--set", "dataset.path=nowhere", "--runs-dir", "none")
    assert done.returncode == 2
    assert done.stderr.startswith("--set: dataset.path: '")
    assert "nowhere': no such file or folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_examples_stand_before_the_prompt_of_an_untuned_model(folder: Path) -> None:
    untuned = ("--set", "encoder=null", "--set", "tuning={name: none, examples: 2}")
    done = collm(folder, "prompt", "tiny.yaml", "--row", "12", "--runs-dir", "runs", *untuned)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("#Question") == 3
    assert done.stdout.count("#Answer: Yes") == done.stdout.count("#Answer: No") == 1
    result = run_json(folder, "tiny.yaml", "--runs-dir", "runs", *untuned)
    assert "shown 2 answered training rows" in " ".join(result["notes"])
    plain = run_json(folder, "tiny.yaml", "--runs-dir", "runs", *untuned[:2], "--set", "tuning={name: none}")
    assert scores(folder, plain)["logit"].to_list() != scores(folder, result)["logit"].to_list()


def test_prompt_shows_what_the_model_reads(folder: Path) -> None:
    done = collm(folder, "prompt", "tiny.yaml", "--row", "12", "--runs-dir", "runs")
    assert done.returncode == 0, done.stderr
    assert "Film, The" in done.stdout
    assert "<user>" in done.stdout
    assert "<item>" in done.stdout
    text, hybrid = done.stdout.split("--- hybrid ---")
    assert "--- text ---" in text
    assert "<user>" not in text
    assert "<user>" in hybrid
    assert "scored_variant: hybrid" in hybrid
    facts = json.loads(collm(folder, "prompt", "tiny.yaml", "--row", "12", "--runs-dir", "runs", "--json").stdout)
    for variant in facts["variants"].values():
        assert len(variant["tokens"]) == variant["n_tokens"]
    none = collm(folder, "prompt", "tiny.yaml", "--row", "99999", "--runs-dir", "runs")
    assert none.returncode == 2
    assert "99999" in none.stderr
