"""`collm run --launcher local`: results, failures and interrupts of runs in processes of their own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from cheap_suite import HERE, TWO, stored, write_suite
from generated import call, command, docs_command, docs_section

LOCAL = ("--launcher", "local", "--workers", "2", *HERE)
BROKEN = "runs:\n  fine: {}\n  broken: {encoder.fit.learning_rate: 1.0e+30}\n"


def killed_in_work(folder: Path, *words: str, after: str, number: signal.Signals) -> tuple[int, str]:
    """Sends a command a signal once it said something, and returns how it ended and all that it said."""
    given = {**os.environ, "COLLM_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command("run", "suite.yaml", *words), cwd=folder, env=given, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    said = ""
    while after not in said and (line := process.stderr.readline()):
        said += line
    process.send_signal(number)
    said += process.stderr.read()
    return process.wait(), said


@pytest.mark.parametrize(("only", "number"), [(TWO, 2), pytest.param((), 6, marks=pytest.mark.slow)])
def test_launched_runs_have_the_results_of_one_by_one(tmp_path: Path, only: tuple[str, ...], number: int) -> None:
    write_suite(tmp_path, seeds=1)
    done = call(tmp_path, "run", "suite.yaml", *LOCAL, *only, "--json")
    assert done.returncode == 0, done.stderr
    alone = call(tmp_path, "run", "suite.yaml", *HERE, *only, "--runs-dir", "alone", "--json")
    assert stored(tmp_path / "runs") == stored(tmp_path / "alone")
    names = [[each["run"] for each in json.loads(printed.stdout)["runs"]] for printed in (done, alone)]
    assert names[0] == names[1]
    assert len(names[0]) == number
    assert done.stderr.count(": started on cpu, pid ") == done.stderr.count(": finished in ") == number
    again = call(tmp_path, "run", "suite.yaml", *LOCAL, *only)
    assert "everything was finished before; nothing was run" in again.stderr


def test_a_failed_run_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    path = write_suite(tmp_path, seeds=1)
    text = path.read_text()
    path.write_text(text[: text.index("matrix:")] + BROKEN, encoding="utf-8")
    done = call(tmp_path, "run", "suite.yaml", *LOCAL)
    assert done.returncode == 1
    log = next((tmp_path / "runs" / "launched").glob("many-broken-*.log"))
    assert f"broken failed: exit code 1; the end of {log}:" in done.stderr
    told = done.stderr.partition(f"the end of {log}:")[2]
    assert "logits are not finite" in told
    assert "fine" in done.stdout


@pytest.mark.slow
def test_an_interrupt_ends_the_runs_and_the_same_command_continues(tmp_path: Path) -> None:
    write_suite(tmp_path, seeds=1)
    code, said = killed_in_work(tmp_path, *LOCAL, after="finished in", number=signal.SIGINT)
    assert code == 130, said
    assert "the same command continues" in said
    assert list((tmp_path / "runs").glob("**/lock")) == []
    done = call(tmp_path, "run", "suite.yaml", *LOCAL)
    assert done.returncode == 0, done.stderr
    assert len(stored(tmp_path / "runs")) == 6


@pytest.mark.slow
def test_runs_end_with_a_killed_command_and_the_same_one_continues(tmp_path: Path) -> None:
    write_suite(tmp_path, seeds=1)
    killed_in_work(tmp_path, *LOCAL, after="finished in", number=signal.SIGKILL)
    done = call(tmp_path, "run", "suite.yaml", *LOCAL)
    assert done.returncode == 0, done.stderr
    alone = call(tmp_path, "run", "suite.yaml", *HERE, "--runs-dir", "alone")
    assert alone.returncode == 0, alone.stderr
    assert stored(tmp_path / "runs") == stored(tmp_path / "alone")


def test_the_command_of_the_docs(tmp_path: Path) -> None:
    section = docs_section("cluster.md", "Many runs at once")
    (suite,) = re.findall(r"^```yaml spec\n# rates.yaml\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    (tmp_path / "rates.yaml").write_text(suite, encoding="utf-8")
    done = call(tmp_path, *docs_command(section), "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert re.search(r"run fast: finished in \d+\.\d s \(\d of 2\)", done.stderr)
