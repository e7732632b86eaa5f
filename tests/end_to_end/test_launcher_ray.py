"""`collm run --launcher ray`: a Ray cluster of two cores that the test starts and stops."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from cheap_suite import HERE, TWO, stored, write_suite
from generated import call

from collm.launch.attempt import Attempt, Record, read_record
from collm.launch.launcher import Ended, Resources

ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'collm[ray]'")
pytestmark = pytest.mark.slow
ONE_CORE = Resources(cpus=1, gpus=0, device="cpu", threads=1)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of a cluster on this machine."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


def test_runs_on_a_cluster_have_the_results_of_one_by_one(tmp_path: Path, address: str) -> None:
    write_suite(tmp_path, seeds=1)
    done = call(tmp_path, "run", "suite.yaml", "--launcher", f"ray:{address}", *HERE, *TWO, "--json")
    assert done.returncode == 0, done.stderr
    assert "on a Ray cluster (1 node, 2 cores, 0 GPUs), each gets 1 core and no GPU (--gpus-per-run)" in done.stderr
    assert (done.stderr.count(": started on "), done.stderr.count(": finished in ")) == (2, 2)
    assert len(json.loads(done.stdout)["runs"]) == 2
    alone = call(tmp_path, "run", "suite.yaml", *HERE, *TWO, "--runs-dir", "alone", "--json")
    assert alone.returncode == 0, alone.stderr
    assert stored(tmp_path / "runs") == stored(tmp_path / "alone")


def test_an_address_that_nobody_answers_at_is_named(tmp_path: Path) -> None:
    write_suite(tmp_path, seeds=1)
    done = call(tmp_path, "run", "suite.yaml", "--launcher", "ray:127.0.0.1:1", *TWO)
    assert done.returncode == 2
    assert "--launcher ray:127.0.0.1:1: no cluster could be joined" in done.stderr


def followed(launcher, attempt: Attempt, on_start) -> Ended:
    """Follows one attempt to its end."""
    launcher.start([attempt])
    while True:
        for event in launcher.watch():
            if isinstance(event, Ended):
                return event
            on_start(read_record(attempt.record))


def test_a_task_whose_process_is_lost_is_begun_again(tmp_path: Path) -> None:
    from collm.launch.on_ray import RayLauncher

    seen: list[Record] = []

    def kill_worker(record: Record) -> None:
        if not seen:
            # The parent of the command is the process that Ray gave the task to.
            os.kill(psutil.Process(record.holder.pid).ppid(), signal.SIGKILL)
        seen.append(record)

    write_suite(tmp_path, seeds=1)
    attempt = Attempt("a", ("run", "suite.yaml", *TWO), tmp_path / "a.log", tmp_path / "runs", tmp_path)
    ray.shutdown()
    # A cluster of its own, as where no address is given.
    launcher = RayLauncher(None, ONE_CORE)
    ended = followed(launcher, attempt, kill_worker)
    launcher.stop()
    assert (ended.code, [each.attempt for each in seen]) == (0, [1, 2])
    assert len(stored(tmp_path / "runs")) == 2
