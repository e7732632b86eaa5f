"""Lock files of runs that name their holder.

The lock is our own because its record is read elsewhere (`collm runs unlock`, trials continued on another machine)
and a zombie counts as dead; filelock's soft lock keeps its record private and takes a zombie for a live process.
A holder sets the time of its lock file every few seconds, so that other machines see that it works.
"""

from __future__ import annotations

import abc
import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from collm.errors import InUse, RunError
from collm.files import temporary_for, write_failure

try:
    import fcntl
except ImportError:  # Windows: the exclusive creation of the file is the only guard there.
    fcntl = None  # type: ignore[assignment]

# Process start times are derived from the boot time, which moves a little when the clock is adjusted.
_START_TOLERANCE_S = 2.0
_POLL_S = 0.5
# A holder sets the time of its lock file this often; one of another machine whose file stays still is not waited for.
BEAT_S = 10.0
STILL_S = 90.0


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Attributes:
        pid: Process id on `host`.
        host: Host name.
        start: Start time of that process, seconds since 1970; tells a reused pid from the holder.
    """

    pid: int
    host: str
    start: float

    @classmethod
    def this_process(cls) -> Holder:
        """Returns the running process."""
        return cls(pid=os.getpid(), host=socket.gethostname(), start=psutil.Process().create_time())

    def is_alive(self) -> bool:
        """Whether the process still runs; only meaningful on its own host. A zombie counts as dead."""
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            return bool(abs(process.create_time() - self.start) <= _START_TOLERANCE_S)
        except (psutil.NoSuchProcess, OverflowError, ValueError):
            # A number that no process can have: the file was damaged.
            return False
        except psutil.AccessDenied:
            return True

    def __str__(self) -> str:
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.start))
        return f"pid {self.pid} on host {self.host}, started {started}"


class WaitingLock(abc.ABC):
    """A context manager that holds a lock, and waits for its holder or is refused."""

    def __init__(self, *, wait: bool, on_wait: Callable[[str], None] | None) -> None:
        """Takes whether to wait for a live holder instead of raising, and what is called when waiting begins."""
        self._wait, self._on_wait = wait, on_wait
        self._waiting = False

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    @abc.abstractmethod
    def acquire(self) -> None:
        """Takes the lock.

        Raises:
            InUse: If another process holds it and waiting is off.
            RunError: If it cannot be taken.
        """

    @abc.abstractmethod
    def release(self) -> None:
        """Gives the lock back."""

    def _wait_a_moment(self, seconds: float, sentence: str) -> None:
        """Waits before the next attempt; `on_wait` gets the sentence when waiting begins."""
        if not self._waiting and self._on_wait is not None:
            self._on_wait(sentence)
        self._waiting = True
        time.sleep(seconds)


class Lock(WaitingLock):
    """A context manager around one lock file.

    A dead holder on this host is taken over at once. A live one is waited for (`wait=True`) or refused. A holder on
    another host cannot be examined from here: it is waited for as long as the time of its lock file moves, and refused
    with what to do once that has stood still for `STILL_S`. Its lock is never broken.
    """

    def __init__(
        self,
        path: Path,
        *,
        root: Path | None = None,
        wait: bool = False,
        on_wait: Callable[[str], None] | None = None,
    ) -> None:
        """Prepares the lock; nothing is written yet.

        Args:
            path: The lock file.
            root: Directory of runs; a refusal names all locks that the holder has there. None = the lock alone.
            wait: Whether to wait for a live holder instead of raising.
            on_wait: Called once with a sentence when waiting begins.
        """
        super().__init__(wait=wait, on_wait=on_wait)
        self.path = path
        self._root = root
        self._held: Holder | None = None
        self._released = threading.Event()

    def acquire(self) -> None:
        """Takes the lock.

        Raises:
            InUse: If another process holds it and waiting is off.
            RunError: If this process holds it, or one of another host that gives no sign of life, or the file cannot be
                written.
        """
        while (other := self._try()) is not None:
            if not self._works(other):
                raise RunError(self._refusal(other))
            if not self._wait:
                raise InUse(self._refusal(other))
            self._wait_a_moment(_POLL_S, f"{self.path.parent}: waiting for {other}, which works on the same thing")
        self._beat()

    def release(self) -> None:
        """Gives the lock back; does nothing where it is not held, or where another process has taken it over."""
        self._released.set()
        if self._held is not None and read_holder(self.path) == self._held:
            with contextlib.suppress(OSError):
                self.path.unlink()
        self._held = None

    def _try(self) -> Holder | None:
        """Takes the lock, or returns the holder that stands in the way."""
        me = Holder.this_process()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _guard(self.path.parent):
                other = read_holder(self.path)
                if other is not None:
                    if other.host != me.host or other.is_alive():
                        return other
                    self.path.unlink(missing_ok=True)
                if not _create(self.path, me):
                    return read_holder(self.path) or me
        except OSError as error:
            raise write_failure(self.path, error) from error
        self._held = me
        return None

    def _works(self, other: Holder) -> bool:
        """Whether the holder can be waited for: it is another process, and as far as can be seen it is alive."""
        if other.host == socket.gethostname():
            return other.pid != os.getpid()
        return not _stands_still(self.path)

    def _beat(self) -> None:
        """Sets the time of the lock file every few seconds until it is given back."""
        self._released = threading.Event()
        held = (self.path, self._held, self._released)
        threading.Thread(target=_keep_moving, args=held, name="lock-beat", daemon=True).start()

    def _refusal(self, other: Holder) -> str:
        if other.pid == os.getpid() and other.host == socket.gethostname():
            return f"{self.path.parent}: this process holds it already; one run works on a folder at a time"
        if other.host != socket.gethostname():
            unknown = (
                f"{self.path.parent}: in use by {other}, which has given no sign of life for {STILL_S:g} seconds. "
                "Whether that process still runs cannot be seen from here"
            )
            if self._root is None:
                return f"{unknown}: if it does not, delete {self.path} and repeat the command"
            folder = self.path.parent.relative_to(self._root)
            locks = ", ".join(map(str, held_locks(self._root, other)))
            return (
                f"{unknown}: if it does not, free all its locks ({locks}) with `collm runs unlock {folder} --runs-dir "
                f"{self._root}` and repeat the command: it continues from the last checkpoint"
            )
        return (
            f"{self.path.parent}: in use by {other}. Wait for it, or end it (kill {other.pid}), "
            "and repeat the command: it continues from the last checkpoint"
        )


# Lock files of other hosts that this process has looked at -> their time, and when it was first seen (monotonic).
_seen: dict[Path, tuple[int, float]] = {}


def _stands_still(path: Path) -> bool:
    """Whether the time of a lock file has not moved for `STILL_S` while this process looked; clocks may differ."""
    try:
        moved = path.stat().st_mtime_ns
    except OSError:
        return False
    before, since = _seen.get(path, (None, 0.0))
    if before != moved:
        since = time.monotonic()
        _seen[path] = (moved, since)
    return time.monotonic() - since > STILL_S


def _keep_moving(path: Path, holder: Holder | None, released: threading.Event) -> None:
    while not released.wait(BEAT_S):
        # A file that cannot be read or set now may be there again at the next beat; it costs others a longer wait.
        with contextlib.suppress(OSError, RunError):
            if read_holder(path) != holder:
                return
            os.utime(path)


def held_locks(root: Path, holder: Holder | None) -> list[Path]:
    """Returns the lock files of one holder in a directory of runs, those of runs first.

    Args:
        root: Directory of runs.
        holder: The holder; None = every holder.
    """
    found = []
    for path in (*sorted(root.glob("*/lock")), *sorted(root.glob("stages/*/lock"))):
        with contextlib.suppress(RunError):
            if holder is None or read_holder(path) == holder:
                found.append(path)
    return found


def read_holder(path: Path) -> Holder | None:
    """Returns the holder named in a lock file, None where there is no file.

    Raises:
        RunError: If the file holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Holder(pid=int(content["pid"]), host=str(content["host"]), start=float(content["start"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: not a lock file; delete it if nothing is running there, and repeat") from error


def _create(path: Path, holder: Holder) -> bool:
    """Creates the lock file with its content in one step; False where it exists already."""
    temporary = temporary_for(path)
    try:
        temporary.write_text(json.dumps(asdict(holder)) + "\n", encoding="utf-8")
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


@contextlib.contextmanager
def _guard(folder: Path) -> Iterator[None]:
    """Lets one process at a time examine and replace lock files of a folder (two could both see a dead holder)."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # A network file system may refuse this kind of lock; the exclusive creation still guards there.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
