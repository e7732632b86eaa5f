"""Several commands on one suite: its runs are shared out, nothing is computed twice, and each ends with the table."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from cheap_suite import HERE, N_RUNS, stored, write_suite
from generated import call, command


class Commands:
    """The same command, started several times at once."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder = folder
        words = command("run", "suite.yaml", *HERE, "--json")
        self.killed: set[int] = set()
        self.processes = []
        for place in range(number):
            with self.said(place).open("wb") as log, self.printed(place).open("wb") as out:
                given = {**os.environ, "COLLM_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
                self.processes.append(subprocess.Popen(words, cwd=folder, env=given, stdout=out, stderr=log))

    def said(self, place: int) -> Path:
        return self.folder / f"said-{place}.txt"

    def printed(self, place: int) -> Path:
        return self.folder / f"printed-{place}.txt"

    def started(self, place: int) -> list[str]:
        """The stages that a command worked on."""
        lines = self.said(place).read_text().splitlines()
        return [line.partition("working in ")[2] for line in lines if "working in " in line]

    def kill_in_work(self, choice: random.Random) -> None:
        """Kills a command that is somewhere in its work."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            busy = [n for n, each in enumerate(self.processes) if each.poll() is None and self.started(n)]
            if busy := [n for n in busy if n not in self.killed]:
                time.sleep(choice.uniform(0, 1))
                place = choice.choice(busy)
                self.processes[place].send_signal(signal.SIGKILL)
                self.killed.add(place)
                return
            time.sleep(0.01)
        pytest.fail("no command began to work")

    def check(self, n_runs: int) -> None:
        """Survivors end with the whole table; only what a killed command was at is begun again."""
        work: Counter[str] = Counter()
        for place, process in enumerate(self.processes):
            code = process.wait(timeout=600)
            work.update(self.started(place))
            if place in self.killed and code == -signal.SIGKILL:
                work.subtract(self.started(place)[-1:])
                continue
            assert code == 0, self.said(place).read_text()
            printed = json.loads(self.printed(place).read_text())
            assert (len(printed["runs"]), printed["failed"]) == (n_runs, {})
        assert {stage: n for stage, n in work.items() if n > 1} == {}
        assert len(stored(self.folder / "runs")) == n_runs
        assert list((self.folder / "runs").glob("**/lock")) == []


def test_two_commands_share_a_suite(tmp_path: Path) -> None:
    write_suite(tmp_path, seeds=1)
    Commands(tmp_path, 2).check(6)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "kills"), [(2, 0), (4, 1), (8, 0), (8, 4)])
def test_many_commands_share_a_suite(tmp_path: Path, number: int, kills: int) -> None:
    write_suite(tmp_path)
    commands, choice = Commands(tmp_path, number), random.Random(number + kills)
    for _ in range(kills):
        commands.kill_in_work(choice)
    commands.check(N_RUNS)
    alone = call(tmp_path, "run", "suite.yaml", *HERE, "--runs-dir", "alone")
    assert alone.returncode == 0, alone.stderr
    assert stored(tmp_path / "runs") == stored(tmp_path / "alone")
