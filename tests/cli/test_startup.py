"""Commands that only read must start fast and never load torch."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS.keys())
def test_reading_command_is_quick_and_light(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(SPEC, encoding="utf-8")
    command = [sys.executable, "-c", PROBE, *arguments]
    # Processor time: what the clock shows on an idle machine, and the same on a busy one.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "loaded: "
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0
