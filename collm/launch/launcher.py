"""What starts commands somewhere and says how they ended, and the launcher that does so on this machine."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from collm.launch.attempt import Attempt, end, read_record

_POLL_S = 0.1


@dataclass(frozen=True)
class Resources:
    """What each command gets of a cluster.

    Attributes:
        cpus: Processor cores.
        gpus: CUDA devices; a part of one where several share it.
        device: Device name; None = the CUDA device that it was given.
        threads: Processor threads.
    """

    cpus: int
    gpus: float
    device: str | None
    threads: int

    def describe(self) -> str:
        """Says what each command gets."""
        gpus = f"{self.gpus:g} GPU{'' if self.gpus == 1 else 's'}" if self.gpus else "no GPU (--gpus-per-run)"
        return f"each gets {self.cpus} core{'' if self.cpus == 1 else 's'} and {gpus}"


@dataclass(frozen=True)
class Started:
    """An attempt that works.

    Attributes:
        name: The attempt's name.
        where: Its device or machine.
    """

    name: str
    where: str


@dataclass(frozen=True)
class Ended:
    """An attempt that ended.

    Attributes:
        name: The attempt's name.
        code: Exit code; negative = minus the signal; None = not known.
        problem: What the launcher says of it, beside the log; empty where it says nothing.
    """

    name: str
    code: int | None
    problem: str = ""


class Launcher(Protocol):
    """Where commands run."""

    def describe(self) -> str:
        """Says where commands run and what each gets."""
        ...

    def free(self) -> int:
        """Returns how many more attempts may be started now."""
        ...

    def several_machines(self) -> bool:
        """Whether commands may run on another machine than this one."""
        ...

    def start(self, attempts: Sequence[Attempt]) -> None:
        """Starts attempts, or puts them in line."""
        ...

    def watch(self) -> list[Started | Ended]:
        """Waits a moment, about a second at most; returns what happened."""
        ...

    def stop(self) -> None:
        """Ends all attempts and gives back what the launcher holds; to be called once, in any case."""
        ...


class Followed:
    """Attempts on other machines, whose records say where they run and how they ended."""

    def __init__(self) -> None:
        """Begins without attempts."""
        self._attempts: dict[str, Attempt] = {}
        self._told: dict[str, int] = {}

    def add(self, attempts: Sequence[Attempt]) -> None:
        """Takes attempts that were started or put in line."""
        self._attempts |= {attempt.name: attempt for attempt in attempts}

    def started(self) -> list[Started]:
        """Returns the attempts that began to work, or began again, since the last call."""
        found = []
        for name, attempt in self._attempts.items():
            record = read_record(attempt.record)
            if record is not None and record.attempt > self._told.get(name, 0):
                self._told[name] = record.attempt
                again = f", attempt {record.attempt}" if record.attempt > 1 else ""
                found.append(Started(name, f"{record.holder.host}, pid {record.holder.pid}{again}"))
        return found

    def drop(self, name: str) -> Attempt:
        """Forgets an attempt that ended and returns it."""
        self._told.pop(name, None)
        return self._attempts.pop(name)


@dataclass(frozen=True)
class _Running:
    name: str
    process: subprocess.Popen[bytes]


class LocalLauncher:
    """Child processes of this one, some at once, each in a slot that has a device and its share of the threads."""

    def __init__(self, devices: Sequence[str], threads: int) -> None:
        """Takes the device of each slot, and the processor threads of each."""
        self._devices, self._threads = tuple(devices), threads
        self._running: dict[int, _Running] = {}
        self._events: list[Started | Ended] = []

    def describe(self) -> str:
        """See `Launcher.describe`."""
        return (
            f"{len(self._devices)} at once on {', '.join(dict.fromkeys(self._devices))}, processor threads of each: "
            f"{self._threads}"
        )

    def free(self) -> int:
        """See `Launcher.free`."""
        return len(self._devices) - len(self._running)

    def several_machines(self) -> bool:
        """See `Launcher.several_machines`."""
        return False

    def start(self, attempts: Sequence[Attempt]) -> None:
        """See `Launcher.start`."""
        for attempt in attempts:
            slot = next(slot for slot in range(len(self._devices)) if slot not in self._running)
            device = self._devices[slot]
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
