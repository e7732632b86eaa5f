"""Commands on this machine, some at once: CUDA devices are dealt out, processor threads are divided."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from collm.launch.attempt import Attempt, end
from collm.launch.launcher import Ended, Started

_POLL_S = 0.1


@dataclass(frozen=True)
class _Running:
    name: str
    process: subprocess.Popen[bytes]


class LocalLauncher:
    """Child processes of this one, each in a slot that has a device."""

    def __init__(self, workers: int, devices: Sequence[str], threads: int) -> None:
        """Takes how many work at once, the devices that they get in turn, and the threads of each."""
        self._workers, self._devices, self._threads = workers, list(devices), threads
        self._running: dict[int, _Running] = {}
        self._events: list[Started | Ended] = []

    def describe(self) -> str:
        """See `Launcher.describe`."""
        return (
            f"{self._workers} at once on {', '.join(dict.fromkeys(self._devices))}, processor threads of each: "
            f"{self._threads}"
        )

    def free(self) -> int:
        """See `Launcher.free`."""
        return self._workers - len(self._running)

    def start(self, attempts: Sequence[Attempt]) -> None:
        """See `Launcher.start`."""
        for attempt in attempts:
            slot = next(slot for slot in range(self._workers) if slot not in self._running)
            device = self._devices[slot % len(self._devices)]
            process, _ = attempt.placed(device, self._threads).start()
            self._running[slot] = _Running(attempt.name, process)
            self._events.append(Started(attempt.name, f"{device}, pid {process.pid}"))

    def watch(self) -> list[Started | Ended]:
        """See `Launcher.watch`."""
        for slot, each in list(self._running.items()):
            if (code := each.process.poll()) is not None:
                del self._running[slot]
                self._events.append(Ended(each.name, code))
        found, self._events = self._events, []
        if not found:
            time.sleep(_POLL_S)
        return found

    def stop(self) -> None:
        """See `Launcher.stop`."""
        end([each.process for each in self._running.values()])
        self._running.clear()
