"""Which process of a launch this is, as launchers say it; only one of several speaks, and only `run` is shared."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from collm.cli.context import say
from collm.cli.main import call
from collm.cli.processes import is_main_process, n_processes, started_less_than_asked
from collm.process_group import SINGLE

ONE = {}
TORCH = {"WORLD_SIZE": "4", "RANK": "2", "LOCAL_RANK": "2"}
MPI = {"ACCELERATE_USE_CPU": "True", "OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_RANK": "0"}
# A batch system's own variables: nobody said that these tasks work together.
TASKS = {"PMI_SIZE": "8", "PMI_RANK": "5"}


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch):
    for name in (*TORCH, *MPI, *TASKS, "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)

    def set_variables(variables: dict[str, str]) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_variables


@pytest.mark.parametrize(
    ("variables", "size", "is_main"), [(ONE, 1, True), (TORCH, 4, False), (MPI, 3, True), (TASKS, 1, True)]
)
def test_place_in_the_launch(launch, variables, size, is_main) -> None:
    launch(variables)
    assert (n_processes(), is_main_process()) == (size, is_main)


def test_a_launch_that_started_one_process_is_noticed(launch) -> None:
    assert not started_less_than_asked()
    launch({"ACCELERATE_USE_CPU": "True", "MASTER_PORT": "29500"})
    assert started_less_than_asked()
    launch(TORCH)
    assert not started_less_than_asked()


def test_others_than_the_main_process_are_silent(launch, capsys) -> None:
    launch(TORCH)
    say("hello")
    launch({"RANK": "0"})
    say("here")
    assert capsys.readouterr().err == "here\n"


def test_other_commands_refuse_a_launcher(launch, capsys) -> None:
    launch(TORCH | {"RANK": "0"})
    assert call(["plugins"]) == 2
    assert "`collm plugins` works in one process: start it without a launcher" in capsys.readouterr().err


def test_a_group_is_met_without_torch_where_there_is_one_process() -> None:
    code = "import sys; from collm.cli.processes import meet; print(meet(None).size, 'torch' in sys.modules)"
    kept = {name: value for name, value in os.environ.items() if name not in {*TORCH, *MPI}}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=kept, check=True)
    assert done.stdout.split() == [str(SINGLE.size), "False"]
