"""Commands that only read start fast and never load torch."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from generated import collm, write_data

PROBE = """
import sys
from collm.cli.main import call
code = call(sys.argv[1:])
names = ("torch", "transformers", "peft", "accelerate", "sklearn", "optuna", "polars")
heavy = [name for name in names if name in sys.modules]
sys.stderr.write("\\nloaded: " + ",".join(heavy) + "\\n")
sys.exit(code)
"""
SPEC = "name: x\ndataset: {name: movielens-small}\nencoder: {name: mf}\n"


COMMANDS = {
    "help": ["--help"],
    "run-help": ["run", "--help"],
    "version": ["--version"],
    "validate": ["validate", "x.yaml"],
    "resolved": ["validate", "x.yaml", "--resolved"],
    "plugins": ["plugins"],
    "plugins-json": ["plugins", "--json"],
    "component": ["plugins", "encoder", "mf"],
    "plugin-new": ["plugin", "new", "encoder", "my-model"],
    "schema": ["schema"],
    "fetch-list": ["fetch"],
}


def seconds(folder: Path, *arguments: str, loaded: str = "") -> float:
    """Returns the processor time of a command that loads no library of models.

    What the clock shows on an idle machine, and the same on a busy one.
    """
    command = [sys.executable, "-c", PROBE, *arguments]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == f"loaded: {loaded}"
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS.keys())
def test_reading_command_is_quick_and_light(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(SPEC, encoding="utf-8")
    assert seconds(tmp_path, *arguments) < 1.0


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of a spec that reads the data beside it."""
    root = tmp_path_factory.mktemp("finished")
    write_data(root / "data")
    (root / "x.yaml").write_text(SPEC.replace("small}", "small, path: data}"), encoding="utf-8")
    collm(root, "run", "x.yaml", "--set", "encoder.fit.epochs=1")
    return root


@pytest.mark.parametrize("words", ["run x.yaml", "report x.yaml", "runs diff RUN RUN", "scores RUN"])
def test_command_that_reads_a_finished_run_loads_tables_alone(finished: Path, words: str) -> None:
    (run,) = (path.name for path in (finished / "runs").glob("x-*"))
    settings = ["--set", "encoder.fit.epochs=1"] if "x.yaml" in words else []
    # Twice the second of the commands that read no table: polars and scipy load.
    assert seconds(finished, *words.replace("RUN", run).split(), *settings, loaded="polars") < 2.0
