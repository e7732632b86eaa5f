"""Commands as jobs of SLURM through submitit: the runs that are ready together are one array job."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collm.errors import UsageError
from collm.launch.attempt import Attempt, end_children, read_record
from collm.launch.launcher import Ended, Followed, Resources, Started

_POLL_S = 1.0
# A day: submitit's own default of some minutes would end every run.
_MINUTES = 24 * 60
# A job whose time is over goes back in line and continues; each time it does counts.
_TIMES = 1000
# File systems of several machines show what another one wrote after a moment.
_VISIBLE_S = 15.0


@dataclass(frozen=True)
class SlurmJob:
    """What a job calls: an attempt, which goes back in line when its time is over or another job takes its place."""

    attempt: Attempt

    def __call__(self) -> int:
        """Runs the command; see `Attempt`."""
        return self.attempt()

    def checkpoint(self) -> Any:
        """Returns what the job calls when it is its turn again; submitit asks for it before the job is ended."""
        from submitit.helpers import DelayedSubmission

        end_children()
        return DelayedSubmission(self)


class SlurmLauncher:
    """Jobs of SLURM, or processes that submitit starts here in their place (`slurm:local`, for trying things out)."""

    def __init__(self, folder: Path, resources: Resources, *, cluster: str, settings: Sequence[str]) -> None:
        """Finds SLURM.

        Args:
            folder: Where submitit keeps its own files; all machines see it.
            resources: What each job gets.
            cluster: `slurm` or `local`.
            settings: `NAME=VALUE` for sbatch.

        Raises:
            UsageError: If submitit is not installed, SLURM is not there, or a setting is none.
        """
        self._resources, self._cluster = resources, cluster
        if resources.gpus != int(resources.gpus):
            raise UsageError(f"--gpus-per-run {resources.gpus:g}: SLURM gives whole GPUs; parts of one are for Ray")
        self._executor = _executor(folder, resources, cluster, _settings(settings))
        self._jobs: dict[str, Any] = {}
        self._followed = Followed()

    def describe(self) -> str:
        """See `Launcher.describe`."""
        where = "as jobs of SLURM" if self._cluster == "slurm" else "as processes that stand for jobs of SLURM"
        return f"{where}, {self._resources.describe()}"

    def free(self) -> int:
        """See `Launcher.free`; SLURM itself keeps jobs in line."""
        return 10_000

    def several_machines(self) -> bool:
        """See `Launcher.several_machines`."""
        return self._cluster == "slurm"

    def start(self, attempts: Sequence[Attempt]) -> None:
        """See `Launcher.start`: one array job."""
        placed = [attempt.placed(self._resources.device, self._resources.threads) for attempt in attempts]
        with self._executor.batch():
            jobs = [self._executor.submit(SlurmJob(attempt)) for attempt in placed]
        self._jobs |= {attempt.name: job for attempt, job in zip(placed, jobs, strict=True)}
        self._followed.add(placed)

    def watch(self) -> list[Started | Ended]:
        """See `Launcher.watch`."""
        events: list[Started | Ended] = [*self._followed.started()]
        for name, job in list(self._jobs.items()):
            if job.done():
                del self._jobs[name]
                events.append(self._ended(self._followed.drop(name), job))
        if not events:
            time.sleep(_POLL_S)
        return events

    def _ended(self, attempt: Attempt, job: Any) -> Ended:
        """Reads how a command ended off its record; the job's own result is a pickle, which is never read."""
        deadline = time.monotonic() + _VISIBLE_S
        while True:
            record = read_record(attempt.record)
            if record is not None and record.code is not None:
                return Ended(attempt.name, record.code)
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL_S)
        said = f"job {job.job_id} ended ({job.state}) before its command did; its own output: {job.paths.stderr}"
        return Ended(attempt.name, None, said)

    def stop(self) -> None:
        """See `Launcher.stop`."""
        for job in self._jobs.values():
            with contextlib.suppress(Exception):
                job.cancel(check=False)
        self._jobs.clear()


def _executor(folder: Path, resources: Resources, cluster: str, settings: dict[str, Any]) -> Any:
    try:
        import submitit
    except ImportError as error:
        raise UsageError("--launcher slurm needs the package submitit: pip install 'collm[slurm]'") from error
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster, slurm_max_num_timeout=_TIMES)
        executor.update_parameters(
            name="collm",
            timeout_min=_MINUTES,
            nodes=1,
            tasks_per_node=1,
            cpus_per_task=resources.cpus,
            gpus_per_node=int(resources.gpus),
            **{f"slurm_{name}": value for name, value in settings.items()},
        )
    except (RuntimeError, NameError, ValueError, TypeError) as error:
        # What follows the first line lists parameters of submitit that cannot be given here.
        raise UsageError(
            f"--launcher slurm: {str(error).partition(chr(10))[0]}; start the command on a machine that has SLURM's "
            "programs, check --slurm, or try it out with --launcher slurm:local"
        ) from error
    return executor


def _settings(settings: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise UsageError(f"--slurm {text}: is not NAME=VALUE, e.g. partition=gpu")
        found[name] = int(value) if value.isdecimal() else value
    return found
