"""Downloading one published file: resumed, tried again, checked, and only then given its name."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from collm.errors import DataError
from collm.fetching.http_transfer import OnBytes, PartFile, TransferFailed, transfer_rest
from collm.fetching.remote_files import Digests, RemoteFile, digests_of, size_text

SECONDS_BETWEEN_LINES = 15.0
# A connection that brings at least this much each time is bad but alive: its cuts are not counted against it.
_PROGRESS_BYTES = 1 << 20
_COMPLETE_DOWNLOADS = 2

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """How long to try on a bad connection.

    Attributes:
        pauses_s: Seconds before the second try, the third and so on; there is one try more than pauses.
        timeout_s: Seconds without any byte after which a connection counts as dead.
        longest_wait_s: The longest wait that a server may demand; beyond it the download ends with an error.
        sleep: Waits the given seconds.
    """

    pauses_s: tuple[float, ...] = (1.0, 3.0, 10.0, 30.0)
    timeout_s: float = 30.0
    longest_wait_s: float = 120.0
    sleep: Callable[[float], None] = time.sleep

    def wait_s(self, failure: TransferFailed, failures: int, *, arrived: int) -> float | None:
        """Returns the seconds to wait before the next try, None to give up."""
        # Unreachable from the first byte on: most likely there is no network at all, and waiting does not help.
        if not failure.passing or failures > len(self.pauses_s) or (failure.unreachable and not arrived):
            return None
        demanded = failure.wait_s or 0.0
        return None if demanded > self.longest_wait_s else max(self.pauses_s[failures - 1], demanded)


def download(file: RemoteFile, target: Path, *, url: str, by_hand: str, patience: Patience) -> Digests:
    """Gets a file that is not there yet; the caller holds its lock.

    Args:
        file: What is published of it.
        target: Where it goes: whole and checked, or not at all. What has arrived of it is in `<name>.part` meanwhile.
        url: Where to get it.
        by_hand: What a user without network can do, as the end of a sentence.
        patience: How often to try, and for how long.

    Returns:
        Its digests.

    Raises:
        DataError: If it cannot be downloaded, is not the published file, or the disk cannot take it.
    """
    part, seen = PartFile(target), list[str]()
    part.check_space(file.size)
    while True:
        if not part.is_complete():
            with shown_progress(file.name) as on_bytes:
                _transfer(file, part, url=url, by_hand=by_hand, patience=patience, on_bytes=on_bytes)
        found = digests_of(part.path)
        fault = file.fault(part.path, found)
        if fault is None:
            part.publish()
            return found
        part.remove()
        seen.append(found.sha256)
        if len(seen) == _COMPLETE_DOWNLOADS:
            again = "twice the same bytes arrived, so the server has another file than the published one"
            damaged = "other bytes arrived each time, so something between here and the server damages them"
            cause = again if len(set(seen)) == 1 else damaged
            raise DataError(f"{url}: not usable: {fault}; {cause}. Nothing was kept; {by_hand}")
        logger.warning("%s: not usable: %s; downloading it once more", file.name, fault)


def _transfer(
    file: RemoteFile, part: PartFile, *, url: str, by_hand: str, patience: Patience, on_bytes: OnBytes
) -> None:
    """Repeats the request until all bytes are there."""
    failures = 0
    while True:
        before = part.size()
        try:
            transfer_rest(url, part, size=file.size, timeout_s=patience.timeout_s, on_bytes=on_bytes)
            return
        except TransferFailed as failure:
            failures = 1 if part.size() - before >= _PROGRESS_BYTES else failures + 1
            wait_s = patience.wait_s(failure, failures, arrived=part.size())
            if wait_s is None:
                arrived = (
                    f"; {size_text(part.size())} have arrived and are kept, so the same command goes on from there"
                )
                kept = arrived if part.size() else ""
                raise DataError(f"{url}: cannot be downloaded: {failure}{kept}; {by_hand}") from failure
            logger.warning("%s: %s; trying again in %g s", file.name, failure, wait_s)
            patience.sleep(wait_s)


@contextmanager
def shown_progress(name: str) -> Iterator[OnBytes]:
    """Shows one download on stderr while the block runs: a bar on a terminal, a line now and then elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _progress_lines(name)
        return
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}"), *columns, console=console, transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _progress_lines(name: str) -> OnBytes:
    last = time.monotonic()

    def on_bytes(done: int, total: int | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            last = now
            of = "" if total is None else f" of {size_text(total)}"
            sys.stderr.write(f"{name}: {size_text(done)}{of}\n")

    return on_bytes
