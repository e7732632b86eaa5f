"""Many workers on one real PostgreSQL server, killed at random: no trial is lost, none is run twice to its end."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from generated import call, command, write_data
from postgres_server import PASSWORD, QUOTED, Server, start_server

from collm.errors import RunError
from collm.locks import read_holder
from collm.registry import default_registry
from collm.study.check import check_study
from collm.study.definition import open_study
from collm.study.records import ClaimedTrial, Outcome
from collm.study.storage import StudyStorage
from collm.study.study_file import read_study
from collm.study.trial_queue import TrialQueue

ENCODER_BASE = """\
  name: killed
  dataset: {name: movielens-small, path: data}
  encoder: {name: mf-bias, embedding_size: 4, fit: {epochs: 15, patience: 15, batch_size: 16}}
"""
ENCODER_SEARCH = """\
    encoder.fit.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}
    encoder.embedding_size: {choices: [2, 4, 8]}
"""
BACKBONE_BASE = """\
  name: killed
  dataset: {name: movielens-small, path: data, limit: {valid: 40, test: 40}}
  encoder: {name: mf-bias, embedding_size: 4, fit: {epochs: 3, batch_size: 64}}
  backbone: {name: tiny, dtype: float32}
  prompt: {name: movie}
  tuning:
    name: default
    batch_size: 4
    max_rows: 40
    checkpoint_seconds: 0
    text: {epochs: 1, warmup_steps: 2}
    collaborative: {epochs: 1, warmup_steps: 2}
"""
BACKBONE_SEARCH = """\
    tuning.collaborative.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}
    tuning.collaborative.weight_decay: {choices: [0.0, 1.0e-3]}
"""
STUDY = """\
name: killed
base:
{base}study:
  objective: valid.auc
  trials: 40
  attempts: 20
  sampler: {{name: tpe, seed: 0}}
  pruner: {{name: median, startup_trials: 8, warmup: 2}}
  storage: {storage}
  search:
{search}"""
N_KILLS = 8


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = start_server()
    yield running
    running.close()


class Commands:
    """The same command twice, as on two machines, each with two workers; with everything that they wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[subprocess.Popen[bytes]] = []
        self.n_started = 0

    def start(self) -> None:
        self.n_started += 1
        with (self.folder / f"output-{self.n_started}.txt").open("wb") as output:
            self.running.append(
                subprocess.Popen(
                    command("study", "run", "study.yaml", "--threads", "1", "--workers", "2"),
                    cwd=self.folder,
                    env={**os.environ, "OMP_NUM_THREADS": "1", "COLLM_CACHE": str(self.folder / "cache")},
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            )

    def kill_something(self, generator: random.Random) -> bool:
        """Kills a worker or a trial's process without warning; False where there is none at the moment."""
        servers = [child for each in self.running for child in psutil.Process(each.pid).children()]
        below = [each for server in servers for each in server.children()]
        if not below:
            return False
        with contextlib.suppress(psutil.NoSuchProcess):
            generator.choice(below).kill()
        return True

    def kill_command(self) -> None:
        """Kills a whole command, as a power cut does, and starts it again."""
        victim = self.running.pop(0)
        victim.kill()
        victim.wait()
        self.start()

    def wait(self, timeout_s: float) -> None:
        for each in self.running:
            assert each.wait(timeout=timeout_s) == 0, self.output()[-4000:]

    def output(self) -> str:
        return "\n".join(path.read_text(encoding="utf-8") for path in sorted(self.folder.glob("output-*.txt")))


def show(folder: Path) -> dict[str, Any]:
    done = call(folder, "study", "show", "study.yaml", "--json")
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def n_begun(folder: Path) -> int:
    return len(list(folder.glob("runs/studies/*/trial-*.log")))


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("base", "search"),
    [
        pytest.param(ENCODER_BASE, ENCODER_SEARCH, id="encoder"),
        pytest.param(BACKBONE_BASE, BACKBONE_SEARCH, id="backbone", marks=pytest.mark.slow),
    ],
)
def test_killed_workers_lose_nothing(server: Server, tmp_path: Path, base: str, search: str) -> None:
    write_data(tmp_path / "data")
    name = f"killed-{len(search)}"
    text = STUDY.format(base=base, search=search, storage=server.url()).replace("name: killed", f"name: {name}")
    (tmp_path / "study.yaml").write_text(text, encoding="utf-8")
    commands = Commands(tmp_path)
    for _ in range(2):
        commands.start()
    generator = random.Random(5)
    kills, begun = 0, 0
    while any(each.poll() is None for each in commands.running):
        # Each kill comes after some progress, so that processes die in every phase of a trial.
        if kills < N_KILLS and n_begun(tmp_path) > begun + 2:
            begun = n_begun(tmp_path)
            if kills == N_KILLS // 2:
                commands.kill_command()
                kills += 1
            else:
                kills += commands.kill_something(generator)
        time.sleep(0.05)
    commands.wait(60)
    assert kills == N_KILLS

    content = show(tmp_path)
    trials = content["trials"]
    assert [trial["number"] for trial in trials] == list(range(40))
    states = Counter(trial["state"] for trial in trials)
    assert set(states) <= {"complete", "pruned", "failed"}
    assert all(trial["cause"] for trial in trials if trial["state"] == "failed")
    assert states["complete"] >= 10
    for events in tmp_path.glob("runs/*/events.jsonl"):
        ends = [line for line in events.read_text().splitlines() if '"run_finished"' in line]
        assert len(ends) <= 1, events
    holders = [read_holder(path) for path in tmp_path.glob("runs/**/lock")]
    assert not any(holder.is_alive() for holder in holders if holder is not None)

    best = trials[content["best"]]
    assert call(tmp_path, "study", "best", "study.yaml", "-o", "best.yaml").returncode == 0
    again = call(tmp_path, "run", "best.yaml", "--runs-dir", "elsewhere", "--threads", "1", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["metrics"]["valid"]["all"]["auc"]["value"] == best["values"][0]
    assert_no_password(tmp_path, commands.output())


def assert_no_password(folder: Path, output: str) -> None:
    secrets = re.compile("|".join(re.escape(each) for each in (PASSWORD, QUOTED, "s3cret")))
    assert secrets.search(output) is None
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "study.yaml":
            assert secrets.search(path.read_bytes().decode("latin-1")) is None, path


def test_a_study_outlives_a_restart_of_its_server(server: Server, tmp_path: Path) -> None:
    write_data(tmp_path / "data")
    text = STUDY.format(base=ENCODER_BASE, search=ENCODER_SEARCH, storage=server.url())
    path = tmp_path / "study.yaml"
    path.write_text(text.replace("name: killed", "name: restarted", 1), encoding="utf-8")
    registry = default_registry()
    checked = check_study(read_study(path, [], registry, cwd=tmp_path, runs_dir=tmp_path), registry)
    storage = StudyStorage(checked.file.storage)
    queue = TrialQueue(checked, storage, open_study(checked, storage))
    first = queue.claim()
    server.stop()
    with pytest.raises(RunError, match=r"study storage postgresql.*Connection refused") as caught:
        queue.trials()
    assert "s3cret" not in str(caught.value)
    server.start()
    assert isinstance(first, ClaimedTrial)
    assert queue.finish(first.number, Outcome("complete", values=(0.7,))) is not None
    assert isinstance(queue.claim(), ClaimedTrial)


def test_a_wrong_password_is_not_shown(server: Server, tmp_path: Path) -> None:
    write_data(tmp_path / "data")
    text = STUDY.format(base=ENCODER_BASE, search=ENCODER_SEARCH, storage=server.url("wr0ng-s3cret"))
    (tmp_path / "study.yaml").write_text(text, encoding="utf-8")
    for debug in ([], ["--debug"]):
        done = call(tmp_path, *debug, "study", "show", "study.yaml")
        assert done.returncode == 1
        assert "password authentication failed" in done.stderr
        assert "tester:***@127.0.0.1" in done.stderr
        assert "s3cret" not in done.stdout + done.stderr
