"""Downloading one published file: resumed, tried again, checked, and only then given its name."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from collm.errors import DataError
from collm.fetching.file_checks import Digests, digests_of, fault_of
from collm.fetching.http_transfer import Progress, TransferFailed, transfer_rest
from collm.fetching.part_file import PartFile
from collm.fetching.remote_files import RemoteFile, size_text
from collm.fetching.transfer_progress import transfer_progress

# A connection that brings at least this much each time is bad but alive: its cuts are not counted against it.
_PROGRESS_BYTES = 1 << 20
_COMPLETE_DOWNLOADS = 2

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """How long a download puts up with a bad connection.

    Attributes:
        pauses_s: Seconds before the second try, the third and so on; there is one try more than pauses.
        timeout_s: Seconds without any byte after which a connection counts as dead.
        longest_wait_s: The longest wait that a server may ask for; where it asks for more, the user decides.
        sleep: Waits the given seconds.
    """

    pauses_s: tuple[float, ...] = (1.0, 3.0, 10.0, 30.0)
    timeout_s: float = 30.0
    longest_wait_s: float = 120.0
    sleep: Callable[[float], None] = time.sleep


def download(file: RemoteFile, target: Path, *, url: str, by_hand: str, patience: Patience) -> Digests:
    """Gets a file that is not there yet; the caller holds its lock.

    Args:
        file: What is published of it.
        target: Where it goes: whole and checked, or not at all. What has arrived of it lies beside it meanwhile.
        url: Where to get it.
        by_hand: What a user without network can do, as the end of a sentence.
        patience: How often to try, and for how long.

    Returns:
        Its digests.

    Raises:
        DataError: If it cannot be had, is not the published file, or the disk cannot take it.
    """
    part, seen = PartFile(target), list[str]()
    part.check_space(file.size)
    while True:
        if not part.is_complete():
            with transfer_progress(file.name) as progress:
                _transfer(file, part, url=url, by_hand=by_hand, patience=patience, progress=progress)
        found = digests_of(part.path)
        fault = fault_of(file, part.path, found)
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
    file: RemoteFile, part: PartFile, *, url: str, by_hand: str, patience: Patience, progress: Progress
) -> None:
    """Repeats the request until all bytes are there."""
    failures = 0
    while True:
        before = part.size()
        try:
            transfer_rest(url, part, size=file.size, timeout_s=patience.timeout_s, progress=progress)
            return
        except TransferFailed as failure:
            failures = 1 if part.size() - before >= _PROGRESS_BYTES else failures + 1
            wait_s = _wait_s(failure, failures, arrived=part.size(), patience=patience)
            if wait_s is None:
                raise DataError(f"{url}: cannot be downloaded: {failure}{_kept(part)}; {by_hand}") from failure
            logger.warning("%s: %s; trying again in %g s", file.name, failure, wait_s)
            patience.sleep(wait_s)


def _wait_s(failure: TransferFailed, failures: int, *, arrived: int, patience: Patience) -> float | None:
    """Returns the seconds to wait before the next try, None to give up."""
    if not failure.passing or failures > len(patience.pauses_s):
        return None
    if failure.unreachable and not arrived:
        # Most likely there is no network at all: a user should not wait to be told.
        return None
    if failure.wait_s is not None and failure.wait_s > patience.longest_wait_s:
        return None
    return max(patience.pauses_s[failures - 1], failure.wait_s or 0.0)


def _kept(part: PartFile) -> str:
    if not part.size():
        return ""
    return f"; {size_text(part.size())} have arrived and are kept, so the same command goes on from there"
