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
    from collm.cli.context import CliState
    from collm.launch.launcher import Launcher, Resources

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
        workers_for: Kinds that `--workers` belongs to; empty = where nothing is launched.
    """

    launcher: str | None
    workers: int | None
    cpus: int | None
    gpus: float | None
    slurm: Sequence[str]
    device: str | None
    threads: int | None
    workers_for: tuple[str, ...] = ("local",)

    @property
    def kind(self) -> str:
        """Returns `local`, `ray` or `slurm`; empty where nothing is launched.

        Raises:
            UsageError: If the launcher is none of them, or an option belongs to another one.
        """
        kind, _ = parse_launcher(self.launcher, "local", "ray", "ray:ADDRESS", "slurm", "slurm:local")
        belongs = {
            "--workers": (self.workers, self.workers_for),
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
        return cluster_share(self.cpus, self.gpus, self.device, self.threads)


def parse_launcher(given: str | None, *allowed: str, advice: str = "") -> tuple[str, str]:
    """Reads `--launcher`.

    Args:
        given: `KIND` or `KIND:PLACE`; None = nothing is launched.
        allowed: What may be given; `ray:ADDRESS` stands for any address.
        advice: Follows the allowed ones in the message.

    Returns:
        Kind and place, each empty where there is none.

    Raises:
        UsageError: If it is another one.
    """
    kind, colon, place = (given or "").partition(":")
    if given is not None and given not in allowed and not (place and colon and f"{kind}:ADDRESS" in allowed):
        raise UsageError(f"--launcher: got '{given}'; allowed are {', '.join(allowed)}{advice}")
    return kind, place


def cluster_share(cpus: int | None, gpus: float | None, device: str | None, threads: int | None) -> Resources:
    """Returns what each command or worker gets of a cluster: one core and no GPU where nothing is said."""
    from collm.launch.launcher import Resources

    return Resources(cpus or 1, gpus or 0, device or (None if gpus else "cpu"), threads or cpus or 1)


@dataclass(frozen=True)
class LocalShare:
    """What each worker on this machine gets.

    Attributes:
        devices: Device name of each worker.
        threads: Processor threads of each.
    """

    devices: tuple[str, ...]
    threads: int


def local_share(
    workers: int | None, device: str | None, threads: int | None, *, at_most: int | None = None
) -> LocalShare:
    """Deals out this machine: CUDA devices in turn, processor threads in equal parts.

    Args:
        workers: How many work at once; None = one per CUDA device, else per core.
        device: Device of all; None = every CUDA device, else the processor.
        threads: Processor threads of each; None = the cores divided by the workers.
        at_most: How many have something to do; None = all.
    """
    devices = [device] if device else cuda_devices()
    on_cuda = device is None and devices != ["cpu"]
    n_workers = workers or (len(devices) if on_cuda else n_cores())
    n_workers = max(1, n_workers if at_most is None else min(n_workers, at_most))
    dealt = tuple(devices[worker % len(devices)] for worker in range(n_workers))
    return LocalShare(dealt, threads or max(1, n_cores() // n_workers))


def check_shared(options: LaunchOptions, runs_dir: Path, command: str) -> None:
    """Accepts a directory of runs that the machines of a launcher see.

    Raises:
        UsageError: If it mirrors an object store, and commands are launched elsewhere than on this machine.
    """
    from collm.runs.remote import place_of, remote_of

    if remote_of(runs_dir) is not None and options.kind != "local":
        raise UsageError(
            f"--launcher {options.launcher}: needs a --runs-dir that all machines see as a folder, and "
            f"{place_of(runs_dir)} is an object store; start `{command}` on each machine instead: they share its runs "
            "(docs/object-storage.md)"
        )


def make_launcher(options: LaunchOptions, folder: Path, *, n_tasks: int) -> Launcher:
    """Makes the launcher that a command asks for.

    Args:
        options: Its options; they name one.
        folder: Where a batch system may keep what it writes of its jobs.
        n_tasks: How many commands there are at most.

    Raises:
        UsageError: If an extra is not installed, or the cluster cannot be reached.
    """
    place = (options.launcher or "").partition(":")[2]
    if options.kind == "local":
        from collm.launch.launcher import LocalLauncher

        share = local_share(options.workers, options.device, options.threads, at_most=n_tasks)
        return LocalLauncher(share.devices, share.threads)
    if options.kind == "ray":
        from collm.launch.on_ray import RayLauncher

        return RayLauncher(place or None, options.resources)
    from collm.launch.on_slurm import SlurmLauncher

    return SlurmLauncher(folder, options.resources, cluster=place or "slurm", settings=options.slurm)


def cuda_devices() -> list[str]:
    """Returns the names of all CUDA devices, the processor's where there are none."""
    from collm.study.trial_process import count_cuda_devices

    n_devices = count_cuda_devices(multiprocessing.get_context("spawn"))
    return [f"cuda:{index}" for index in range(n_devices)] or ["cpu"]


def global_words(state: CliState) -> tuple[str, ...]:
    """Returns the options before a command's name that launched commands get, too."""
    return (*(["--debug"] if state.debug else []), *(["--strict-plugins"] if state.strict_plugins else []))


def carried_variables() -> dict[str, str]:
    """Returns the environment variables of this process that commands get wherever they run."""
    return {name: value for name, value in os.environ.items() if name.startswith("COLLM_") or name in _VARIABLES}


def n_cores() -> int:
    """Returns the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
