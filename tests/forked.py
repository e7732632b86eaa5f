"""Commands in processes that are forked from an interpreter which has imported the libraries.

Importing torch, transformers and the rest takes 5 s of a processor, which is more than most commands of the tests work.
A command still has a process, an environment, a folder and streams of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path
from unittest import mock

IMPORTED = (
    "collm.cli.main",
    "collm.experiment",
    "collm.stages.language_model",
    "collm.trained",
    "collm.report.pages",
    "collm.study.run",
    "optuna",
    "sklearn.linear_model",
    "scipy.stats",
    "accelerate",
)
# Variables that are read when a command asks for them; a command with others of its own starts from nothing.
READ_LATE = ("COLLM_", "AWS_", "COLUMNS", "NO_COLOR", "PYTEST_")
FROM_THE_START = {"OMP_NUM_THREADS": "1"}
COLLM = [sys.executable, "-m", "collm"]


def run_forked(
    command: list[str], *, cwd: Path, environment: Mapping[str, str], timeout: float = 600.0
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end and returns its exit code, stdout and stderr.

    Args:
        command: `COLLM` and the words after it, or this interpreter, a script that finds nothing of collm imported,
            and the words after it.
        cwd: Folder in which it runs.
        environment: Its whole environment.
        timeout: Seconds after which it is killed.

    Raises:
        subprocess.TimeoutExpired: It was killed.
    """
    late = READ_LATE if command[:3] == COLLM else (*READ_LATE, "PYTHONPATH")
    before = {**os.environ, **FROM_THE_START}
    own = [name for name in {*before, *environment} if before.get(name) != environment.get(name)]
    # The trials of a study are forked, too, and would come from the interpreter of the tests.
    starts_trials = command[3:4] == ["study"]
    if sys.platform != "linux" or starts_trials or not all(name.startswith(late) for name in own):
        return subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        out.touch()
        err.touch()
        given = (command, str(cwd), dict(environment), (os.devnull, str(out), str(err)))
        process = _server().Process(target=_work, args=given)
        with mock.patch.dict(os.environ, FROM_THE_START):
            process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(command, timeout, out.read_bytes(), err.read_bytes())
        code = process.exitcode
        process.close()
        return subprocess.CompletedProcess(command, code, out.read_text("utf-8"), err.read_text("utf-8"))


@cache
def _server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    return context


def _work(command: list[str], cwd: str, environment: dict[str, str], streams: tuple[str, ...]) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for stream, path in enumerate(streams):
        opened = os.open(path, os.O_RDWR)
        os.dup2(opened, stream)
        os.close(opened)
    if command[:3] == COLLM:
        sys.argv = ["collm", *command[3:]]
        sys.path.insert(0, cwd)
        runpy.run_module("collm", run_name="__main__", alter_sys=True)
        return
    for name in [name for name in sys.modules if name.partition(".")[0] == "collm"]:
        del sys.modules[name]
    sys.argv = command[1:]
    sys.path[:0] = [str(Path(command[1]).parent), *environment.get("PYTHONPATH", "").split(os.pathsep)]
    runpy.run_path(command[1], run_name="__main__")
