"""Runs in an object store: machines with caches of their own share what is finished, and compute nothing twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import fsspec
import pytest
from cheap_suite import HERE, stored, write_suite
from generated import call, command
from s3_server import SECRET, Bucket

import collm
from collm.cli.main import call as call_here
from collm.errors import UsageError
from collm.runs.remote import mirror_of

N_RUNS = 6


class Machine:
    """A command on a machine with a cache of its own, in the background."""

    def __init__(self, folder: Path, name: str, bucket: Bucket, *words: str) -> None:
        self.mirror = mirror_of(bucket.address, folder / name, bucket.endpoint)
        self.log = folder / f"said-{name}-{len(list(folder.iterdir()))}.txt"
        self.printed = self.log.with_suffix(".json")
        given = {**os.environ, "OMP_NUM_THREADS": "1", **bucket.variables(folder / name)}
        with self.log.open("wb") as log, self.printed.open("wb") as printed:
            words = words or ("run", "suite.yaml", *HERE, "--json")
            self.process = subprocess.Popen(
                command(*words, "--runs-dir", bucket.address), cwd=folder, env=given, stdout=printed, stderr=log
            )

    def worked(self) -> list[str]:
        """The stages that it worked on."""
        lines = self.log.read_text().splitlines()
        return [line.partition("working in ")[2] for line in lines if "working in " in line]

    def end(self) -> str:
        """Waits for its end and returns what it printed."""
        assert self.process.wait(timeout=600) == 0, self.log.read_text()
        return self.printed.read_text()

    def kill(self, after: int, choice: random.Random) -> None:
        """Kills it after it began to work on some stages."""
        deadline = time.monotonic() + 120
        while len(self.worked()) < after and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(choice.uniform(0, 0.1))
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def on(cache: Path, monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str] | None = None) -> None:
    """From now on this process is a machine with that cache."""
    for name, value in {"COLLM_CACHE": str(cache), **(variables or {})}.items():
        monkeypatch.setenv(name, value)


def test_the_second_machine_reuses_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address, suite = f"memory://{tmp_path.name}/runs", write_suite(tmp_path, seeds=1)
    on(tmp_path / "a", monkeypatch)
    first = collm.run(suite, runs_dir=address, device="cpu", threads=1)
    on(tmp_path / "b", monkeypatch)
    second = collm.run(suite, runs_dir=address, device="cpu", threads=1)
    assert [each.reused for each in first.runs] == [False] * N_RUNS
    assert [each.reused for each in second.runs] == [True] * N_RUNS
    a, b = (mirror_of(address, tmp_path / name) for name in "ab")
    assert a != b
    assert stored(a) == stored(b) != {}
    # Stages come when they are needed.
    assert not (b / "stages").exists()
    model = collm.open_run(f"{address}/{second.runs[0].folder.name}", device="cpu", threads=1)
    assert len(model.score(["u1"], ["i1"])) == 1
    assert list((b / "stages").iterdir())
    on(tmp_path / "c", monkeypatch)
    numbers = collm.load_results(address)
    assert numbers.drop("folder").equals(first.frame().sort("run", maintain_order=True).drop("folder"))
    one = collm.load_results(f"{address}/{first.runs[0].folder.name}/")
    assert one["run"].unique().to_list() == [first.runs[0].folder.name]


def test_without_its_runs_a_store_gives_the_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address, suite = f"memory://{tmp_path.name}/runs", write_suite(tmp_path, seeds=1)
    on(tmp_path / "a", monkeypatch)
    first = collm.run(suite, only=["many-embedding_size2-learning_rate0.01"], runs_dir=address, device="cpu", threads=1)
    (name,) = (each.folder.name for each in first.runs)
    fsspec.filesystem("memory").rm(f"{address}/{name}", recursive=True)
    on(tmp_path / "b", monkeypatch)
    second = collm.run(
        suite, only=["many-embedding_size2-learning_rate0.01"], runs_dir=address, device="cpu", threads=1
    )
    timing = second.runs[0].results.timing
    assert {name: each.reused for name, each in timing.items()} == dict.fromkeys(timing, True)
    assert stored(mirror_of(address, tmp_path / "a")) == stored(mirror_of(address, tmp_path / "b"))


@pytest.mark.slow
def test_two_machines_share_a_suite_and_a_third_reads_it(tmp_path: Path, bucket: Bucket) -> None:
    write_suite(tmp_path, seeds=1)
    machines = [Machine(tmp_path, name, bucket) for name in "ab"]
    work: Counter[str] = Counter()
    for each in machines:
        printed = json.loads(each.end())
        assert (len(printed["runs"]), printed["failed"]) == (N_RUNS, {})
        work.update(each.worked())
    assert {stage: n for stage, n in work.items() if n > 1} == {}
    finished = {key.split("/")[1] for key in bucket.names() if key.startswith("stages/") and key.endswith("/done")}
    assert finished == set(work)
    assert [key for key in bucket.names() if key.endswith("/lock")] == []
    assert stored(machines[0].mirror) == stored(machines[1].mirror)
    name = next(iter(stored(machines[0].mirror)))
    _third_machine(tmp_path, bucket, name)
    for path in [*tmp_path.rglob("*.json*"), *tmp_path.rglob("*.txt"), *tmp_path.rglob("*.yaml")]:
        assert SECRET not in path.read_text()


def _third_machine(tmp_path: Path, bucket: Bucket, name: str) -> None:
    """Lists, reports and scores from a machine that computed nothing, with credentials that only read."""
    (tmp_path / "pairs.csv").write_text("user,item\nu1,i1\nu2,i3\n", encoding="utf-8")
    variables = bucket.variables(tmp_path / "c", *bucket.reader())
    there = ("--runs-dir", bucket.address)
    listed = call(tmp_path, "runs", *there, **variables)
    assert listed.stdout.count(" done ") == N_RUNS, listed.stderr
    report = call(tmp_path, "report", "suite.yaml", *there, "--csv", "report.csv", **variables)
    assert report.returncode == 0, report.stderr
    assert "not run yet" not in report.stdout
    one = call(tmp_path, "report", name, *there, **variables)
    assert one.returncode == 0, one.stderr
    scored = call(tmp_path, "score", name, "pairs.csv", "-o", "scored.csv", *there, **variables)
    assert scored.returncode == 0, scored.stderr
    assert len((tmp_path / "scored.csv").read_text().splitlines()) == 3
    again = call(tmp_path, "run", "suite.yaml", *there, "--json", **variables)
    assert again.returncode == 0, again.stderr
    assert "everything was finished before" in again.stderr
    more = call(tmp_path, "run", "suite.yaml", *HERE, "--set", "seeds=[7]", *there, **variables)
    assert more.returncode == 1
    assert "cannot be written: access is refused (AccessDenied" in more.stderr
    assert "working in" not in more.stderr


@pytest.mark.slow
def test_a_machine_that_is_killed_leaves_nothing_half(tmp_path: Path, bucket: Bucket) -> None:
    write_suite(tmp_path, seeds=1)
    choice = random.Random(5)
    for after in (1, 3, 6, 12, 20):
        Machine(tmp_path, "a", bucket).kill(after, choice)
        # Whatever is marked as finished is whole.
        (tmp_path / "look").mkdir(exist_ok=True)
        checked = call(tmp_path, "runs", "check", "--runs-dir", bucket.address, **bucket.variables(tmp_path / "look"))
        assert checked.returncode == 0, checked.stdout
    printed = json.loads(Machine(tmp_path, "a", bucket).end())
    assert (len(printed["runs"]), printed["failed"]) == (N_RUNS, {})
    alone = call(tmp_path, "run", "suite.yaml", *HERE, "--runs-dir", "alone")
    assert alone.returncode == 0, alone.stderr
    assert stored(mirror_of(bucket.address, tmp_path / "a", bucket.endpoint)) == stored(tmp_path / "alone")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("runs", "rm", "some-run"), "`collm runs rm` removes folders of a directory, and s3://"),
        (("runs", "gc"), "`collm runs gc` removes folders of a directory, and s3://"),
        (("run", "suite.yaml", "--launcher", "ray"), "start `collm run` on each machine instead"),
        (("study", "run", "study.yaml"), "study.storage: is left out"),
        (("score", "no-such-run", "pairs.csv", "-o", "out.csv"), "no-such-run: not a run folder here or in s3://"),
        (("report", "no-such-run"), "no-such-run: neither a run folder (here or in s3://"),
    ],
)
def test_what_a_store_refuses(
    tmp_path: Path,
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    said: str,
) -> None:
    write_suite(tmp_path, seeds=1)
    study = (
        "name: few\nbase: {name: few, dataset: {name: tiny}, encoder: {name: mf-bias}}\n"
        "study: {objective: valid.auc, trials: 1, search: {encoder.fit.epochs: {choices: [1, 2]}}}\n"
    )
    (tmp_path / "study.yaml").write_text(study, encoding="utf-8")
    (tmp_path / "pairs.csv").write_text("user,item\nu1,i1\n", encoding="utf-8")
    on(tmp_path / "a", monkeypatch, bucket.variables(tmp_path / "a"))
    monkeypatch.chdir(tmp_path)
    code = call_here([*words, "--runs-dir", bucket.address])
    assert (code, said in (printed := capfd.readouterr().err)) == (2, True), printed


def test_an_address_with_one_slash_is_not_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call_here(["runs", "--runs-dir", "s3:/bucket/runs"]) == 2
    assert "s3:/bucket/runs: an address has two slashes, e.g. s3://bucket/runs" in capfd.readouterr().err
    with pytest.raises(UsageError, match="from Python give it as text"):
        collm.load_results(Path("s3://bucket/runs"))


def test_the_store_is_looked_at(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    on(tmp_path / "a", monkeypatch, bucket.variables(tmp_path / "a"))
    call_here(["doctor", "--runs-dir", bucket.address])
    assert f"ok       object store: {bucket.address}, with locks by conditional writes" in capfd.readouterr().out
    assert call_here(["doctor", "--runs-dir", "s3://no-such-bucket/runs"]) == 1
    assert "broken   object store: s3://no-such-bucket/runs: cannot be listed: there is no" in capfd.readouterr().out
