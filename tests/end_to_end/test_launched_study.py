"""`collm study run --launcher`: workers here, on Ray and as jobs; none of a study's trials is lost or done twice."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from generated import call, command, docs_command, docs_section

STUDY = """\
name: points
base:
  name: points
  dataset: {name: tiny}
  encoder: {name: mf-bias, embedding_size: 4, fit: {epochs: 40, patience: 40}}
study:
  objective: valid.auc
  sampler: {name: grid}
  search:
    encoder.embedding_size: {choices: [2, 4, 8]}
    encoder.fit.learning_rate: {choices: [1.0e-3, 1.0e-2]}
"""
N_POINTS = 6
TWO = ("--workers", "2")
Watch = Callable[[subprocess.Popen[str], str], bool]


def write_study(folder: Path) -> None:
    (folder / "study.yaml").write_text(STUDY, encoding="utf-8")


def trials(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Returns point -> values; every point is one complete trial with a run of its own."""
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["trials"]
    assert [trial["state"] for trial in found] == ["complete"] * N_POINTS
    assert [trial["number"] for trial in found] == list(range(N_POINTS))
    assert len({trial["spec_hash"] for trial in found}) == N_POINTS
    for trial in found:
        lines = (Path(trial["run_dir"]) / "events.jsonl").read_text().splitlines()
        assert sum(json.loads(line)["event"] == "run_finished" for line in lines) == 1
    return {json.dumps(trial["params"], sort_keys=True): trial["values"] for trial in found}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The trials of one command, one after the other."""
    folder = tmp_path_factory.mktemp("alone")
    write_study(folder)
    return trials(call(folder, "study", "study.yaml", "--device", "cpu", "--threads", "1", "--json"))


def disturbed(folder: Path, *words: str, act: Watch) -> subprocess.CompletedProcess[str]:
    """Runs a study and disturbs it: `act` sees all lines said so far, until it says that it did something."""
    given = {**os.environ, "COLLM_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    with (folder / "said").open("w+") as said:
        process = subprocess.Popen(
            command("study", "study.yaml", *words),
            cwd=folder,
            env=given,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
        acted = False
        while not acted and process.poll() is None:
            time.sleep(0.02)
            acted = act(process, (folder / "said").read_text())
        assert acted, "the study ended before it was disturbed"
        stdout, _ = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, (folder / "said").read_text())


def worker_at_work(said: str) -> psutil.Process | None:
    """Returns a worker, one of whose trials has a process."""
    for pid in re.findall(r"worker \d: started on .*, pid (\d+)", said):
        try:
            worker = psutil.Process(int(pid))
            if any(child.children() for child in worker.children()):
                return worker
        except psutil.NoSuchProcess:
            continue
    return None


def kill_a_worker(process: subprocess.Popen[str], said: str) -> bool:
    worker = worker_at_work(said)
    if worker is not None:
        worker.kill()
    return worker is not None


def interrupt(process: subprocess.Popen[str], said: str) -> bool:
    if worker_at_work(said) is None:
        return False
    process.send_signal(signal.SIGINT)
    return True


def test_a_killed_workers_trial_goes_to_the_other(tmp_path: Path, alone: dict[str, Any]) -> None:
    write_study(tmp_path)
    words = ("--launcher", "local", *TWO, "--device", "cpu", "--threads", "1", "--json")
    done = disturbed(tmp_path, *words, act=kill_a_worker)
    assert trials(done) == alone
    assert "points: 2 workers: 2 at once on cpu, processor threads of each: 1" in done.stderr
    assert len(re.findall(r"worker \d: killed \(SIGKILL\).*; its trials go to the others", done.stderr)) == 1
    assert done.stderr.count("ended, nothing is left for it") == 1
    attempts = [trial["attempts"] for trial in json.loads(done.stdout)["trials"]]
    assert sorted(attempts) == [1] * (N_POINTS - 1) + [2]
    assert list((tmp_path / "runs").glob("**/lock")) == []
    again = call(tmp_path, "study", "study.yaml", *words)
    assert "points: 6 of 6 trials were finished before" in again.stderr
    assert "started on" not in again.stderr


@pytest.mark.slow
def test_an_interrupt_releases_the_trials_and_the_same_command_goes_on(tmp_path: Path, alone: dict[str, Any]) -> None:
    write_study(tmp_path)
    words = ("--launcher", "local", *TWO, "--device", "cpu", "--threads", "1", "--json")
    done = disturbed(tmp_path, *words, act=interrupt)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "runs").glob("**/lock")) == []
    continued = call(tmp_path, "study", "study.yaml", *words)
    assert trials(continued) == alone
    # An interrupt costs no attempt.
    assert {trial["attempts"] for trial in json.loads(continued.stdout)["trials"]} == {1}


@pytest.mark.slow
def test_workers_end_with_a_killed_command(tmp_path: Path, alone: dict[str, Any]) -> None:
    write_study(tmp_path)
    below: list[psutil.Process] = []

    def kill(process: subprocess.Popen[str], said: str) -> bool:
        if worker_at_work(said) is None:
            return False
        below.extend(psutil.Process(process.pid).children(recursive=True))
        process.kill()
        return True

    words = ("--launcher", "local", *TWO, "--device", "cpu", "--threads", "1", "--json")
    assert disturbed(tmp_path, *words, act=kill).returncode == -signal.SIGKILL
    _, alive = psutil.wait_procs(below, timeout=30)
    assert alive == []
    assert trials(call(tmp_path, "study", "study.yaml", *words)) == alone


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "package", "sent"),
    [
        # What SLURM sends a job before it takes its machine away; the worker is a child of the job.
        pytest.param("slurm:local", "submitit", signal.SIGUSR2, id="slurm"),
        # The process that Ray gave the task to: Ray begins the task again.
        pytest.param("ray", "ray", signal.SIGKILL, id="ray"),
    ],
)
def test_work_that_a_cluster_begins_again(
    tmp_path: Path, alone: dict[str, Any], launcher: str, package: str, sent: signal.Signals
) -> None:
    pytest.importorskip(package, reason=f"{package} is not installed")
    write_study(tmp_path)

    def disturb(process: subprocess.Popen[str], said: str) -> bool:
        worker = worker_at_work(said)
        if worker is not None:
            os.kill(worker.ppid(), sent)
        return worker is not None

    done = disturbed(tmp_path, "--launcher", launcher, *TWO, "--json", act=disturb)
    assert trials(done) == alone
    assert "attempt 2" in done.stderr
    if launcher == "ray":
        assert done.stderr.count("ended, nothing is left for it") == 2
    else:
        assert {trial["attempts"] for trial in json.loads(done.stdout)["trials"]} == {1}


def test_the_command_of_the_docs(tmp_path: Path) -> None:
    section = docs_section("cluster.md", "Many trials at once")
    (study,) = re.findall(r"^```yaml study\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    (tmp_path / "search.yaml").write_text(study, encoding="utf-8")
    done = call(tmp_path, *docs_command(section), "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "rates: 2 workers: 2 at once on cpu" in done.stderr
    assert "4 complete" in done.stderr + done.stdout
