"""Commands as tasks of a Ray cluster: each asks for its cores and GPUs, and is begun again where its node is lost."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Sequence
from typing import Any

from collm.errors import RunError, UsageError
from collm.launch.attempt import END_S, Attempt
from collm.launch.launcher import Ended, Followed, Resources, Started

logger = logging.getLogger(__name__)
RETRIES = 5
_POLL_S = 0.5
_CONNECT_S = 10.0


class RayLauncher:
    """Tasks of a Ray cluster; one that this process started itself ends with it."""

    def __init__(self, address: str | None, resources: Resources) -> None:
        """Joins a cluster.

        Args:
            address: Its address; None = that of `RAY_ADDRESS`, else a cluster on this machine for this command alone.
            resources: What each task gets.

        Raises:
            UsageError: If Ray is not installed, or no cluster answers.
        """
        self._ray, self._resources = connect(address), resources
        self._tasks: dict[Any, str] = {}
        self._followed = Followed()

    def describe(self) -> str:
        """See `Launcher.describe`."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        asked = {"CPU": float(self._resources.cpus), "GPU": float(self._resources.gpus)}
        fits = any(all(node.get(name, 0.0) >= number for name, number in asked.items()) for node in nodes)
        short = "" if fits else "; no node has as much now: they wait until one does"
        total = {name: sum(node.get(name, 0.0) for node in nodes) for name in asked}
        has = f"{len(nodes)} node{'' if len(nodes) == 1 else 's'}, {total['CPU']:g} cores, {total['GPU']:g} GPUs"
        return f"on a Ray cluster ({has}), {self._resources.describe()}{short}"

    def free(self) -> int:
        """See `Launcher.free`; Ray itself keeps tasks in line."""
        return 10_000

    def several_machines(self) -> bool:
        """See `Launcher.several_machines`."""
        nodes = [node["NodeManagerHostname"] for node in self._ray.nodes() if node["Alive"]]
        return set(nodes) != {socket.gethostname()}

    def start(self, attempts: Sequence[Attempt]) -> None:
        """See `Launcher.start`."""
        placed = [attempt.placed(self._resources.device, self._resources.threads) for attempt in attempts]
        run = self._ray.remote(_run)
        asked = {"num_cpus": self._resources.cpus, "num_gpus": self._resources.gpus, "max_retries": RETRIES}
        for attempt in placed:
            self._tasks[run.options(name=attempt.name, **asked).remote(attempt)] = attempt.name
        self._followed.add(placed)

    def watch(self) -> list[Started | Ended]:
        """See `Launcher.watch`."""
        done, _ = self._ray.wait(list(self._tasks), num_returns=1, timeout=_POLL_S) if self._tasks else ([], [])
        events: list[Started | Ended] = [*self._followed.started()]
        for task in done:
            name = self._tasks.pop(task)
            self._followed.drop(name)
            events.append(self._ended(task, name))
        return events

    def _ended(self, task: Any, name: str) -> Ended:
        try:
            return Ended(name, int(self._ray.get(task)))
        # The boundary of the task: whatever Ray raises for it is told, and the others go on.
        except Exception as error:  # noqa: BLE001
            return Ended(name, None, f"its Ray task failed: {first_line(error)}")

    def stop(self) -> None:
        """See `Launcher.stop`."""
        tasks = list(self._tasks)
        for task in tasks:
            with contextlib.suppress(Exception):
                self._ray.cancel(task, force=False)
        if tasks:
            with contextlib.suppress(Exception):
                self._ray.wait(tasks, num_returns=len(tasks), timeout=END_S + 1)
        self._tasks.clear()
        self._ray.shutdown()


def _run(attempt: Attempt) -> int:
    return attempt()


def connect(address: str | None) -> Any:
    """Joins a Ray cluster, or starts one on this machine.

    Args:
        address: Its address; None = that of `RAY_ADDRESS`, else a new cluster.

    Returns:
        The module `ray`.

    Raises:
        UsageError: If Ray is not installed, or no cluster answers.
    """
    try:
        import ray
    except ImportError as error:
        raise UsageError("--launcher ray needs the package ray: pip install 'collm[ray]'") from error
    where = f"--launcher ray:{address}" if address else "--launcher ray"
    advice = "give ray:HOST:PORT of a running one, or leave the address out to start one on this machine"
    if fault := _unanswered(address or ""):
        raise UsageError(f"{where}: no cluster could be joined ({fault}); {advice}")
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False, include_dashboard=None)
    # Ray raises errors of many classes for an address where nothing answers.
    except Exception as error:
        raise UsageError(f"{where}: no cluster could be joined ({first_line(error)}); {advice}") from error
    return ray


def _unanswered(address: str) -> str:
    """Says why nothing answers at HOST:PORT, where Ray itself would wait for minutes; empty for other addresses."""
    host, colon, port = address.rpartition(":")
    if not colon or "/" in address or not port.isdecimal():
        return ""
    try:
        socket.create_connection((host, int(port)), _CONNECT_S).close()
    except (OSError, OverflowError) as error:
        return f"{host} port {port}: {error}"
    return ""


def first_line(error: BaseException) -> str:
    """Returns an error's class and the first line of what it says, without the traces that Ray puts behind."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, RunError):
        return str(cause)
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
