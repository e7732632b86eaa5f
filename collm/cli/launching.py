"""`--launcher` of commands: where their work is done, read from options; Ray and submitit load only when asked for."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from collm.errors import UsageError

if TYPE_CHECKING:
    from collm.launch.launcher import Launcher, Resources

KINDS = ("local", "ray", "slurm")
# What commands on other machines get of this one's environment, beside everything that is named for collm.
_VARIABLES = ("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "HF_HOME", "HF_HUB_OFFLINE")
LauncherOption = Annotated[
    str | None,
    typer.Option(
        metavar="local|ray[:ADDRESS]|slurm",
        help="Run each run in a process of its own: on this machine, on a Ray cluster, or as jobs of SLURM.",
        show_default=False,
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(min=1, help="With --launcher local: how many at once. Default: CUDA devices, else cores."),
]
CpusOption = Annotated[
    int | None, typer.Option(min=1, help="With --launcher ray or slurm: processor cores of each. Default: 1.")
]
GpusOption = Annotated[
    float | None,
    typer.Option(min=0, help="With --launcher ray or slurm: GPUs of each; Ray takes parts of one. Default: none."),
]
SlurmOption = Annotated[
    list[str] | None,
    typer.Option(
        "--slurm",
        metavar="NAME=VALUE",
        help="With --launcher slurm: a setting of sbatch, e.g. partition=gpu or time=720 (minutes). Repeatable.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class LaunchOptions:
    """The options of one command about where its work is done.

    Attributes:
        launcher: `local`, `ray`, `ray:ADDRESS`, `slurm` or `slurm:local`; None = in this process.
        workers: `--workers`.
        cpus: `--cpus-per-run`.
        gpus: `--gpus-per-run`.
        slurm: `--slurm`.
        device: `--device`.
        threads: `--threads`.
    """

    launcher: str | None
    workers: int | None
    cpus: int | None
    gpus: float | None
    slurm: Sequence[str]
    device: str | None
    threads: int | None

    @property
    def kind(self) -> str:
        """Returns `local`, `ray` or `slurm`; empty where nothing is launched.

        Raises:
            UsageError: If the launcher is none of them, or an option belongs to another one.
        """
        kind, colon, rest = (self.launcher or "").partition(":")
        wrong = self.launcher is not None and (kind not in KINDS or (colon and not rest))
        if wrong or (kind == "local" and rest) or (kind == "slurm" and rest not in ("", "local")):
            raise UsageError(f"--launcher {self.launcher}: allowed are local, ray, ray:ADDRESS, slurm")
        belongs = {
            "--workers": (self.workers, ("local",)),
            "--cpus-per-run": (self.cpus, ("ray", "slurm")),
            "--gpus-per-run": (self.gpus, ("ray", "slurm")),
            "--slurm": (self.slurm or None, ("slurm",)),
        }
        for option, (value, kinds) in belongs.items():
            if value is not None and kind not in kinds:
                raise UsageError(f"{option}: belongs to --launcher {' or '.join(kinds)}")
        return kind

    @property
    def resources(self) -> Resources:
        """Returns what each command gets of a cluster."""
        from collm.launch.launcher import Resources

        cpus, gpus = self.cpus or 1, self.gpus or 0
        return Resources(cpus, gpus, self.device or (None if gpus else "cpu"), self.threads or cpus)


def make_launcher(options: LaunchOptions, folder: Path, *, n_tasks: int) -> Launcher:
    """Makes the launcher that a command asks for.

    Args:
        options: Its options; they name one.
        folder: Where a batch system may keep what it writes of its jobs.
        n_tasks: How many commands there are at most.

    Raises:
        UsageError: If an extra is not installed, or the cluster cannot be reached.
    """
    address = (options.launcher or "").partition(":")[2]
    if options.kind == "local":
        return _local(options, n_tasks)
    if options.kind == "ray":
        from collm.launch.on_ray import RayLauncher

        return RayLauncher(address or None, options.resources)
    from collm.launch.on_slurm import SlurmLauncher

    return SlurmLauncher(folder, options.resources, cluster=address or "slurm", settings=options.slurm)


def _local(options: LaunchOptions, n_tasks: int) -> Launcher:
    from collm.launch.local import LocalLauncher

    devices = [options.device] if options.device else cuda_devices()
    workers = options.workers or (len(devices) if devices != ["cpu"] and options.device is None else n_cores())
    workers = max(1, min(workers, n_tasks))
    return LocalLauncher(workers, devices, options.threads or max(1, n_cores() // workers))


def cuda_devices() -> list[str]:
    """Returns the names of all CUDA devices, the processor's where there are none."""
    from collm.study.trial_process import count_cuda_devices

    n_devices = count_cuda_devices(multiprocessing.get_context("spawn"))
    return [f"cuda:{index}" for index in range(n_devices)] or ["cpu"]


def carried_variables() -> dict[str, str]:
    """Returns the environment variables of this process that commands get wherever they run."""
    return {name: value for name, value in os.environ.items() if name.startswith("COLLM_") or name in _VARIABLES}


def n_cores() -> int:
    """Returns the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
