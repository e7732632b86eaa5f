"""Known points, finished runs, a time limit and a wider space through the real command, on a file and on PostgreSQL."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from generated import call, command, write_data
from postgres_server import Server, start_server

BASE = """\
name: base
dataset: {name: movielens-small, path: data}
encoder: {name: mf-bias, embedding_size: 4, fit: {epochs: 3, batch_size: 64}}
"""
STUDY = """\
name: known
base: base.yaml
study:
  objective: valid.auc
  trials: 5
  sampler: {name: cmaes, seed: 0}
  pruner: {name: optuna, type: PercentilePruner, settings: {percentile: 10.0, n_startup_trials: 20}}
  storage: STORAGE
  enqueue:
    - {encoder.embedding_size: 8, encoder.fit.learning_rate: 2.0e-3}
    - {encoder.embedding_size: 3}
  from_runs: [earlier]
  search:
    encoder.embedding_size: {low: 2, high: 8}
    encoder.fit.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = start_server()
    yield running
    running.close()


@pytest.fixture(params=["journal", "postgresql"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    storage = "journal:studies.log"
    if request.param == "postgresql":
        storage = request.getfixturevalue("server").url()
    write_data(tmp_path / "data")
    (tmp_path / "base.yaml").write_text(BASE, encoding="utf-8")
    (tmp_path / "study.yaml").write_text(STUDY.replace("STORAGE", storage), encoding="utf-8")
    return tmp_path


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments),
        cwd=folder,
        env={**os.environ, "COLLM_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def trials_of(text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(text)["trials"]
    return found


def test_two_commands_share_what_is_known(folder: Path) -> None:
    for setting in ("encoder.embedding_size=5", "seed=3"):
        done = call(folder, "run", "base.yaml", "--set", setting, "--runs-dir", "earlier")
        assert done.returncode == 0, done.stderr
    commands = [start(folder, "study", "study.yaml", "--threads", "1", "--json") for _ in range(2)]
    ends = [each.communicate(timeout=600) for each in commands]
    assert [each.returncode for each in commands] == [0, 0], ends
    said = "".join(stderr for _, stderr in ends)
    assert said.count("known: 1 finished runs taken in as trials") == 1
    assert "it differs from the base: seed: 3 there, 0 here" in said
    trials = trials_of(ends[0][0])
    # Five of its own, and the run.
    assert [trial["state"] for trial in trials] == ["complete"] * 6
    taken = [trial for trial in trials if "taken_from" in trial]
    assert [trial["params"]["encoder.embedding_size"] for trial in taken] == [5]
    stored = json.loads((Path(taken[0]["run_dir"]) / "results.json").read_text())
    assert taken[0]["values"] == [stored["metrics"]["valid"]["all"]["auc"]["value"]]
    enqueued = [trial["params"] for trial in trials if "enqueued" in trial]
    assert {"encoder.embedding_size": 8, "encoder.fit.learning_rate": 2e-3} in enqueued
    assert sorted(point["encoder.embedding_size"] for point in enqueued) == [3, 8]
    best = call(folder, "study", "best", "study.yaml", "--trial", str(taken[0]["number"]))
    assert "embedding_size: 5" in best.stdout

    text = (folder / "study.yaml").read_text().replace("high: 8}", "high: 16}").replace("trials: 5", "trials: 6")
    (folder / "study.yaml").write_text(text, encoding="utf-8")
    wider = call(folder, "study", "study.yaml", "--threads", "1", "--json")
    assert wider.returncode == 0, wider.stderr
    assert "the search space changed: 6 finished trials carried over; the old study is known@" in wider.stderr
    assert len(trials_of(wider.stdout)) == 7


def test_a_trial_over_its_time_is_failed_and_keeps_its_stages(folder: Path) -> None:
    settings = ["study.trials=1", "study.trial_minutes=0.15", "encoder.fit.epochs=1000000", "encoder.fit.patience=9999"]
    settings += ["study.enqueue=[]", "study.from_runs=[]"]
    overrides = [part for each in settings for part in ("--set", each)]
    text = (folder / "study.yaml").read_text().replace("name: known", "name: late")
    (folder / "study.yaml").write_text(text, encoding="utf-8")
    done = call(folder, "study", "study.yaml", "--threads", "1", "--json", *overrides)
    assert done.returncode == 1, done.stderr
    (trial,) = trials_of(done.stdout)
    assert (trial["state"], trial["attempts"]) == ("failed", 1)
    assert trial["cause"].startswith("over its time: ended after 0.15 minutes")
    assert "Traceback" not in done.stderr
    assert list((folder / "runs" / "stages").glob("prepare_data-*/done"))
    assert list((folder / "runs" / "stages").glob("fit_encoder-*"))
