"""`collm study` through the real command line: runs, continues, survives kills, shows itself; and the dashboard."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from generated import call, command, write_data

BASE = """\
name: base
dataset: {name: movielens-small, path: data}
encoder: {name: mf-bias, embedding_size: 4, fit: {epochs: 3, batch_size: 64}}
"""
STUDY = """\
name: search
base: base.yaml
study:
  objective: valid.auc
  trials: 6
  sampler: {name: tpe, seed: 0}
  storage: journal:studies.log
  search:
    encoder.embedding_size: {choices: [2, 4]}
    encoder.fit.learning_rate: {choices: [1.0e-3, 1.0e-2]}
"""
TUNED = """\
name: tuned
base:
  name: tuned
  dataset: {name: movielens-small, path: data, limit: {valid: 40, test: 40}}
  encoder: {name: mf-bias, embedding_size: 4, fit: {epochs: 3, batch_size: 64}}
  backbone: {name: tiny, dtype: float32}
  prompt: {name: movie}
  tuning:
    name: default
    batch_size: 4
    max_rows: 60
    checkpoint_seconds: 0
    text: {epochs: 1, warmup_steps: 2}
    collaborative: {epochs: 2, warmup_steps: 2}
study:
  objective: [valid.auc, cost.seconds_per_sample]
  trials: 3
  sampler: {name: random}
  storage: sqlite:///tuned.db
  search:
    tuning.collaborative.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("studies")
    write_data(root / "data")
    (root / "base.yaml").write_text(BASE, encoding="utf-8")
    (root / "study.yaml").write_text(STUDY, encoding="utf-8")
    (root / "tuned.yaml").write_text(TUNED, encoding="utf-8")
    return root


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "COLLM_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}


def data(folder: Path, *arguments: str) -> dict[str, Any]:
    done = call(folder, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    return content


@pytest.fixture(scope="module")
def finished(folder: Path) -> dict[str, Any]:
    return data(folder, "study", "study.yaml", "--threads", "1")


def test_a_study_runs_and_answers_duplicates_from_its_storage(folder: Path, finished: dict[str, Any]) -> None:
    trials = finished["trials"]
    assert [trial["number"] for trial in trials] == list(range(6))
    assert {trial["state"] for trial in trials} == {"complete"}
    # Six trials on four points: at least two are repeats, and no spec is run twice.
    ran = [trial for trial in trials if "duplicate_of" not in trial]
    assert len(ran) == len({trial["spec_hash"] for trial in ran}) <= 4
    assert len(list((folder / "runs").glob("search-*"))) == len(ran)
    assert finished["best"] == max(trials, key=lambda trial: (trial["values"], -trial["number"]))["number"]
    stages = [trial["stages"]["prepare_data"]["reused"] for trial in ran]
    assert stages == [False, *[True] * (len(ran) - 1)]


def test_the_same_command_again_does_nothing(folder: Path, finished: dict[str, Any]) -> None:
    before = (folder / "studies.log").stat().st_mtime_ns
    done = call(folder, "study", "run", "study.yaml", "--threads", "1")
    assert done.returncode == 0
    assert "search: 6 of 6 trials were finished before" in done.stderr
    assert "importances for valid.auc" in done.stdout
    assert (folder / "studies.log").stat().st_mtime_ns == before


def test_test_rows_are_not_scored_in_a_search(folder: Path, finished: dict[str, Any]) -> None:
    results = json.loads((Path(finished["trials"][0]["run_dir"]) / "results.json").read_text())
    assert set(results["metrics"]) == {"valid"}


def test_the_best_trial_repeats_elsewhere(folder: Path, finished: dict[str, Any]) -> None:
    written = call(folder, "study", "best", "study.yaml", "-o", "best.yaml")
    assert written.returncode == 0, written.stderr
    again = data(folder, "run", "best.yaml", "--runs-dir", "elsewhere", "--threads", "1")
    best = finished["trials"][finished["best"]]
    assert again["metrics"]["valid"]["all"]["auc"]["value"] == best["values"][0]
    assert set(again["metrics"]) == {"valid", "test"}
    here = data(folder, "run", "best.yaml", "--threads", "1")
    assert here["timing"]["fit_encoder"]["reused"]


def test_a_changed_space_is_refused_then_migrated(folder: Path, finished: dict[str, Any]) -> None:
    text = STUDY.replace("[2, 4]", "[2, 8]").replace("name: search", "name: moved")
    (folder / "moved.yaml").write_text(STUDY.replace("name: search", "name: moved"), encoding="utf-8")
    first = data(folder, "study", "moved.yaml", "--threads", "1")
    (folder / "moved.yaml").write_text(text, encoding="utf-8")
    refused = call(folder, "study", "moved.yaml", "--threads", "1")
    assert refused.returncode == 2
    assert refused.stderr.startswith("moved.yaml:1:1: ")
    assert "search.encoder.embedding_size: choices [2, 4] there, choices [2, 8] here" in refused.stderr
    moved = call(folder, "study", "run", "moved.yaml", "--threads", "1", "--migrate", "--json")
    assert moved.returncode == 0, moved.stderr
    assert "carried over" in moved.stderr
    kept = [trial for trial in first["trials"] if trial["params"]["encoder.embedding_size"] == 2]
    trials = json.loads(moved.stdout)["trials"]
    # Repeats are carried over too, and still name the trial that ran.
    assert any("duplicate_of" in trial for trial in kept)
    assert [trial["values"] for trial in trials[: len(kept)]] == [trial["values"] for trial in kept]
    assert [trial["params"] for trial in trials[: len(kept)]] == [trial["params"] for trial in kept]
    assert len(trials) == 6


def test_mistakes_are_located_and_nothing_is_started(folder: Path) -> None:
    text = STUDY.replace("[2, 4]", "[2, 0]").replace("encoder.fit.learning_rate", "encoder.fit.learnin_rate")
    (folder / "bad.yaml").write_text(text.replace("name: search", "name: bad"), encoding="utf-8")
    done = call(folder, "study", "bad.yaml")
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0].startswith("bad.yaml:9:")
    assert lines[1].startswith("bad.yaml:10:5: study.search.encoder.fit.learnin_rate: unknown field")
    assert not (folder / "runs" / "studies" / "bad").exists()


def test_sqlite_is_for_one_worker(folder: Path) -> None:
    done = call(folder, "study", "run", "tuned.yaml", "--workers", "2")
    assert done.returncode == 2
    assert "sqlite is for one worker: use journal:PATH on one machine, postgresql:// on several" in done.stderr


def test_a_study_is_no_suite(folder: Path) -> None:
    done = call(folder, "run", "study.yaml")
    assert done.returncode == 2
    assert "collm study" in done.stderr


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("study", *arguments),
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def pulse(process: subprocess.Popen[str]) -> Iterator[None]:
    """Comes round a few times a second for as long as the process lives."""
    while process.poll() is None:
        try:
            process.wait(timeout=0.02)
        except subprocess.TimeoutExpired:
            yield


def wait_for_checkpoint(folder: Path, process: subprocess.Popen[str]) -> None:
    """Waits until this process, not an earlier one, has left a checkpoint."""
    started = time.time_ns()
    for _ in pulse(process):
        if any(path.stat().st_mtime_ns > started for path in folder.glob("runs/stages/tune_2-*/checkpoint*s")):
            return
    pytest.fail(process.communicate()[1])


def test_killed_and_interrupted_trials_go_on_from_their_checkpoint(folder: Path) -> None:
    killed = start(folder, "tuned.yaml", "--threads", "1")
    wait_for_checkpoint(folder, killed)
    children = psutil.Process(killed.pid).children(recursive=True)
    killed.kill()
    killed.communicate()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == [], "processes outlived their command"

    interrupted = start(folder, "tuned.yaml", "--threads", "1")
    wait_for_checkpoint(folder, interrupted)
    interrupted.send_signal(signal.SIGINT)
    _, stderr = interrupted.communicate(timeout=60)
    assert interrupted.returncode == 130
    assert stderr.endswith("interrupted; the same command continues from the last checkpoint\n")
    assert "Traceback" not in stderr

    content = data(folder, "study", "tuned.yaml", "--threads", "1")
    trials = content["trials"]
    assert [trial["state"] for trial in trials] == ["complete"] * 3
    # The kill cost an attempt, the interrupt did not.
    assert trials[0]["attempts"] == 2
    events = [json.loads(line) for line in (Path(trials[0]["run_dir"]) / "events.jsonl").read_text().splitlines()]
    assert any(event.get("values", {}).get("resumed") for event in events)
    assert sum(event["event"] == "run_finished" for event in events) == 1
    # Everything before the last step is done once for all trials.
    for trial in trials[1:]:
        assert {name for name, stage in trial["stages"].items() if stage["reused"]} >= {"fit_encoder", "tune_1"}
    assert isinstance(content["best"], list)
    assert "Pareto front" in call(folder, "study", "show", "tuned.yaml").stdout


def test_local_workers_share_a_study(folder: Path) -> None:
    text = STUDY.replace("name: search", "name: shared").replace("[1.0e-3, 1.0e-2]", "[1.0e-4, 1.0e-3, 1.0e-2]")
    (folder / "shared.yaml").write_text(text, encoding="utf-8")
    content = data(folder, "study", "run", "shared.yaml", "--workers", "3", "--threads", "1", "--runs-dir", "shared")
    assert [trial["state"] for trial in content["trials"]] == ["complete"] * 6
    ran = [trial for trial in content["trials"] if "duplicate_of" not in trial]
    assert len(ran) == len({trial["spec_hash"] for trial in ran})


def test_a_killed_trial_is_begun_again_beside_another(folder: Path) -> None:
    text = STUDY.replace("name: search", "name: killed").replace("[1.0e-3, 1.0e-2]", "{low: 1.0e-4, high: 1.0e-2}")
    text = text.replace("learning_rate: {choices: {low", "learning_rate: {low").replace("1.0e-2}}", "1.0e-2}")
    (folder / "killed.yaml").write_text(text.replace("trials: 6", "trials: 12"), encoding="utf-8")
    process = start(folder, "run", "killed.yaml", "--workers", "2", "--threads", "1")
    killed = False
    for _ in pulse(process):
        if not killed and list(folder.glob("runs/studies/killed/trial-*.log")):
            killed = kill_a_trial(process.pid)
    _, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert killed
    trials = data(folder, "study", "show", "killed.yaml")["trials"]
    assert [trial["state"] for trial in trials] == ["complete"] * 12
    assert sum(trial["attempts"] - 1 for trial in trials if "duplicate_of" not in trial) <= 1


def kill_a_trial(command_pid: int) -> bool:
    """Kills the oldest child of the fork server, which is a trial's process."""
    below = [each for server in psutil.Process(command_pid).children() for each in server.children()]
    if below:
        min(below, key=lambda each: each.create_time()).kill()
    return bool(below)


def test_a_page_is_written(folder: Path, finished: dict[str, Any]) -> None:
    done = call(folder, "study", "show", "study.yaml", "--html", "study.html")
    assert done.returncode == 0
    assert "wrote study.html" in done.stderr
    assert "Optimisation history" in (folder / "study.html").read_text()


def test_optuna_dashboard_opens_the_storage(folder: Path, finished: dict[str, Any]) -> None:
    pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = "from optuna_dashboard._cli import main; main()"
    arguments = ["studies.log", "--host", "127.0.0.1", "--port", str(port)]
    dashboard = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        studies = fetch(f"http://127.0.0.1:{port}/api/studies")["study_summaries"]
        (number,) = [study["study_id"] for study in studies if study["study_name"] == "search"]
        detail = fetch(f"http://127.0.0.1:{port}/api/studies/{number}?after=0")
    finally:
        dashboard.kill()
        dashboard.wait()
    assert [trial["number"] for trial in detail["trials"]] == list(range(6))
    assert [trial["values"] for trial in detail["trials"]] == [trial["values"] for trial in finished["trials"]]


def fetch(url: str) -> Any:
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError:
            raise
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
