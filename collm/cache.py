"""Places of the cache: each is made by one process at a time, and what a process that died left there is removed."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from collm.errors import CollmError, DataError

logger = logging.getLogger(__name__)
CONVERTING, DOWNLOADING = ".convert-", ".download-"


@contextlib.contextmanager
def making(target: Path) -> Iterator[None]:
    """Holds a place of the cache while it is made; the system frees the lock of a process that dies.

    Args:
        target: File or folder that is made; ask inside the block whether another process was faster.

    Raises:
        DataError: If the cache cannot be written: read-only, full, not a folder.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target):
            for left in leftovers(target):
                shutil.rmtree(left, ignore_errors=True)
                left.unlink(missing_ok=True) if not left.is_dir() else None
            yield
    except Exception as error:
        # Writers in native code (safetensors, parquet) wrap the system's error in a class of their own.
        full = os.strerror(errno.ENOSPC)
        if not isinstance(error, OSError) and (isinstance(error, CollmError) or full not in str(error)):
            raise
        said = (error.strerror or str(error)) if isinstance(error, OSError) else full
        raise DataError(
            f"{target}: cannot be written ({said}); free some space, make the folder writable, or "
            "set COLLM_CACHE to another folder"
        ) from error


def leftovers(target: Path) -> list[Path]:
    """Returns what processes that work on a place of the cache, or died at it, have beside it."""
    names = (f"{CONVERTING}*", f"{DOWNLOADING}*", f".{target.name}.*.tmp")
    return sorted(path for name in names for path in target.parent.glob(name))


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
    # Beside the folder and not in it: the folder holds what was made and nothing else.
    lock = FileLock(target.parent.with_name(f".{target.parent.name}-{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("%s: another process is fetching it; waiting", target.name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
