"""`collm run --launcher slurm:local`: submitit's stand-in for SLURM; jobs that go back in line continue."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from cheap_suite import HERE, TWO, stored, write_suite
from generated import call

from collm.launch.attempt import Attempt, log_end, read_record
from collm.launch.launcher import Ended, Resources

pytest.importorskip("submitit", reason="submitit is not installed: pip install 'collm[slurm]'")
pytestmark = pytest.mark.slow


def test_jobs_have_the_results_of_one_by_one(tmp_path: Path) -> None:
    write_suite(tmp_path, seeds=1)
    done = call(tmp_path, "run", "suite.yaml", "--launcher", "slurm:local", *HERE, *TWO, "--json")
    assert done.returncode == 0, done.stderr
    assert (done.stderr.count(": started on "), done.stderr.count(": finished in ")) == (2, 2)
    alone = call(tmp_path, "run", "suite.yaml", *HERE, *TWO, "--runs-dir", "alone", "--json")
    assert alone.returncode == 0, alone.stderr
    assert stored(tmp_path / "runs") == stored(tmp_path / "alone")


@pytest.fixture
def launcher(tmp_path: Path):
    from collm.launch.on_slurm import SlurmLauncher

    made = SlurmLauncher(tmp_path / "slurm", Resources(1, 0, "cpu", 1), cluster="local", settings=["partition=any"])
    yield made
    made.stop()


def test_a_job_whose_place_is_taken_goes_back_in_line_and_continues(tmp_path: Path, launcher) -> None:
    write_suite(tmp_path, seeds=1)
    attempt = Attempt("a", ("run", "suite.yaml", *TWO), tmp_path / "a.log", tmp_path / "runs", tmp_path)
    launcher.start([attempt])
    events: list = []
    while not any(isinstance(each, Ended) for each in events):
        found = launcher.watch()
        if found and not events:
            time.sleep(1)
            # What SLURM sends a job before it takes its machine away; the command is a child of the job.
            os.kill(psutil.Process(read_record(attempt.record).holder.pid).ppid(), signal.SIGUSR2)
        events += found
    assert events[-1].code == 0
    assert ["attempt 2" in each.where for each in events[:-1]] == [False, True]
    assert len(stored(tmp_path / "runs")) == 2
    assert list((tmp_path / "runs").glob("**/lock")) == []


def test_a_command_that_fails_is_a_job_that_ended(tmp_path: Path, launcher) -> None:
    attempt = Attempt("a", ("run", "nowhere.yaml"), tmp_path / "a.log", tmp_path / "runs", tmp_path)
    launcher.start([attempt])
    events: list = []
    while not any(isinstance(each, Ended) for each in events):
        events += launcher.watch()
    assert events[-1].code == 2
    assert "no such file" in log_end(attempt.log)[0]
    assert read_record(attempt.record).code == 2
