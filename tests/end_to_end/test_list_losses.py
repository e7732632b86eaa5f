"""Each loss through the command line: what is trained, counted and said; wrong settings; kill and resume."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from generated import call, command, write_data

STEP = "{epochs: 2, warmup_steps: 1, validations_per_epoch: 1, learning_rate: 0.01}"
BASE = f"""\
name: losses
dataset: {{name: movielens-small, path: data, limit: {{valid: 40}}}}
history: {{max_items: 3}}
encoder: {{name: mf-bias, embedding_size: 4, fit: {{epochs: 2, batch_size: 64}}}}
backbone: {{name: tiny, dtype: float32}}
prompt: {{name: movie}}
tuning: {{name: default, batch_size: 4, max_rows: 40, checkpoint_seconds: 0, text: {STEP}, collaborative: {STEP}}}
evaluate: {{resamples: 20}}
"""
SUITE = f"""\
name: losses
base: base.yaml
runs:
  bce: {{}}
  stated: {{tuning.loss: bce}}
  softmax: {{tuning.loss: softmax}}
  four: {{tuning.loss: softmax, tuning.negatives: 4}}
  two: {{tuning.loss: softmax, tuning.negatives: 2}}
  bpr: {{tuning.loss: bpr}}
  din: {{tuning.loss: softmax, encoder: {{name: din, fit: {{epochs: 1}}}}}}
  held-out: {{tuning.loss: softmax, tuning.collaborative.rows: held-out}}
  t2: {{tuning: {{name: t2, loss: bpr, batch_size: 4, max_rows: 40, text: {STEP}, collaborative: {STEP}}}}}
  t3: {{tuning: {{name: t3, loss: softmax, batch_size: 4, max_rows: 40, text: {STEP}, collaborative: {STEP}}}}}
  words:
    encoder: {{name: binllm, bits: 16, encoder: {{name: mf-bias, embedding_size: 4, fit: {{epochs: 1}}}}}}
    tuning: {{name: words, loss: softmax, batch_size: 4, max_rows: 40, text: {STEP}, collaborative: {STEP}}}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder and the results of all runs by key."""
    root = tmp_path_factory.mktemp("losses")
    write_data(root / "data")
    (root / "base.yaml").write_text(BASE, encoding="utf-8")
    (root / "suite.yaml").write_text(SUITE, encoding="utf-8")
    done = call(root, "run", "suite.yaml", "--threads", "1", "--json")
    assert done.returncode == 0, done.stderr
    return root, {each["run"]: each for each in json.loads(done.stdout)["runs"]}


def said(made: dict[str, Any], start: str) -> list[str]:
    return [note for note in made["notes"] if note.startswith(start)]


def test_every_strategy_trains_on_lists_and_says_so(finished: tuple[Path, dict[str, Any]]) -> None:
    _, runs = finished
    for key, made in runs.items():
        loss = {"bpr": "bpr", "t2": "bpr"}.get(key, "softmax")
        steps = [facts for name, facts in made["facts"].items() if name.startswith("tune")]
        notes = said(made, "tuning.loss")
        if key in ("bce", "stated"):
            assert notes == []
            assert all(40 <= facts["rows"] < 50 for facts in steps)
            continue
        assert all(note.startswith(f"tuning.loss: {loss}: each of {steps[0]['rows']}") for note in notes[:1])
        assert len(notes) == (2 if key == "held-out" else 1)
        (whole,) = said(made, "The language model was tuned on")
        assert whole.startswith(f"The language model was tuned on the {steps[0]['rows']} positives among 4")
        assert " of 480 training rows" in whole
        assert all(facts["optimiser_steps"] == 2 * -(-facts["rows"] // 4) for facts in steps)


def test_tokens_of_a_step_are_counted(finished: tuple[Path, dict[str, Any]]) -> None:
    _, runs = finished
    tokens = {key: runs[key]["facts"]["tune_1"]["tokens"] for key in ("bce", "softmax", "two", "bpr")}
    assert tokens["two"] < tokens["softmax"] == tokens["bpr"]
    facts = runs["softmax"]["facts"]["tune_1"]
    assert facts["curve"][-1]["tokens"] == facts["tokens"]
    # Two more negatives cost less than two rows, whose beginnings are of their own.
    bce = runs["bce"]["facts"]["tune_1"]
    assert (tokens["softmax"] - tokens["two"]) / facts["rows_seen"] < 1.5 * tokens["bce"] / bce["rows_seen"]


def test_losses_differ_and_equal_settings_are_one_stage(finished: tuple[Path, dict[str, Any]]) -> None:
    root, runs = finished
    stages = {key: made["stages"].get("tune_2") for key, made in runs.items()}
    assert stages["bce"] == stages["stated"]
    assert stages["softmax"] == stages["four"]
    assert len({stages[key] for key in ("bce", "softmax", "two", "bpr", "t2", "din")}) == 6
    logits = {
        key: pl.read_parquet(root / runs[key]["run_dir"] / "scores.parquet")["logit"].to_list()
        for key in ("bce", "softmax", "two", "bpr")
    }
    assert len({tuple(each) for each in logits.values()}) == 4


def test_a_killed_run_ends_with_the_same_scores(finished: tuple[Path, dict[str, Any]]) -> None:
    root, runs = finished
    script = (
        "import os, signal, sys\n"
        "from collm.engine.list_task import ListTask\n"
        "plain, calls = ListTask.loss_sum, []\n"
        "def loss_sum(self, rows):\n"
        "    calls.append(rows)\n"
        "    if len(calls) > 11: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return plain(self, rows)\n"
        "ListTask.loss_sum = loss_sum\n"
        "from collm.cli.main import main\n"
        "sys.argv = 'collm run suite.yaml --only softmax --threads 1 --runs-dir killed'.split()\n"
        "main()\n"
    )
    (root / "killed.py").write_text(script, encoding="utf-8")
    environment = {**os.environ, "COLLM_CACHE": str(root / "cache"), "OMP_NUM_THREADS": "1"}
    call_killed = [*command()[:1], "killed.py"]
    done = subprocess.run(call_killed, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    assert len(list((root / "killed" / "stages").glob("tune_2*/checkpoint.safetensors"))) == 1
    again = call(root, "run", "suite.yaml", "--only", "softmax", "--threads", "1", "--runs-dir", "killed", "--json")
    assert again.returncode == 0, again.stderr
    (made,) = json.loads(again.stdout)["runs"]
    whole, part = (pl.read_parquet(root / each["run_dir"] / "scores.parquet") for each in (runs["softmax"], made))
    assert whole["logit"].to_list() == part["logit"].to_list()
    for step in ("tune_1", "tune_2"):
        assert made["facts"][step]["tokens"] == runs["softmax"]["facts"][step]["tokens"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            ["tuning.loss=sofmax"],
            "tuning.loss: got 'sofmax', must be one of: bce, bpr, softmax; did you mean 'softmax'?",
        ),
        (["tuning.negatives=4"], "tuning.negatives: got the number 4, tuning.loss: bce draws no negatives"),
        (["tuning.loss=bpr", "tuning.negatives=0"], "tuning.negatives: got the number 0, must be greater than"),
        (["tuning={name: none, loss: bpr}", "encoder=null"], "tuning.loss: got 'bpr', the strategy none has no step"),
    ],
)
def test_wrong_settings_are_told_at_their_place(
    finished: tuple[Path, dict[str, Any]], settings: list[str], expected: str
) -> None:
    root, _ = finished
    done = call(root, "validate", "base.yaml", *(word for each in settings for word in ("--set", each)))
    assert done.returncode == 2
    assert f"--set: {expected}" in done.stderr


def test_more_negatives_than_there_are_items_end_the_run_with_a_number(finished: tuple[Path, dict[str, Any]]) -> None:
    root, _ = finished
    done = call(root, "run", "base.yaml", "--set", "tuning.loss=bpr", "--set", "tuning.negatives=40", "--threads", "1")
    assert done.returncode != 0
    assert "tuning.negatives: 40 asked for, but no user with a positive has so many of the 40 items" in done.stderr
