"""Writing files so that a crash, a full disk or a second process never leaves half a file under the final name."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from collm.errors import RunError

TEMPORARY_SUFFIX = ".tmp"

_ADVICE = {
    errno.ENOSPC: "the disk is full: free some space, or choose another folder with --runs-dir",
    errno.EDQUOT: "the disk quota is used up: free some space, or choose another folder with --runs-dir",
    errno.EROFS: "the file system is read-only: choose another folder with --runs-dir",
    errno.EACCES: "permission is missing: make the folder writable, or choose another with --runs-dir",
    errno.EPERM: "permission is missing: make the folder writable, or choose another with --runs-dir",
}

_FULL = (errno.ENOSPC, errno.EDQUOT)


def write_failure(path: Path, error: OSError) -> RunError:
    """Returns the error that tells a user which file could not be written, why, and what to do."""
    reason = error.strerror or str(error)
    advice = _ADVICE.get(error.errno or 0, "look at the folder, or choose another with --runs-dir")
    return RunError(f"{path}: cannot be written ({reason}); {advice}, then repeat the command: finished work is kept")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path in the same folder that takes the final name when the block ends without an error.

    For writers that need a path (parquet, safetensors). The bytes are on disk before the name changes, and the
    temporary file is removed on any failure.

    Args:
        path: Final file; its folder is made if it is missing.

    Yields:
        The path to write to.

    Raises:
        RunError: If the disk is full, the folder is not writable, or the like.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    except Exception as error:
        if isinstance(error, OSError) and _concerns(error, path, temporary):
            raise write_failure(path, error) from error
        with full_disk_named(path):
            raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Turns whatever a writer raises on a full disk into the error that says so; all other errors pass.

    Args:
        path: What is being written.

    Raises:
        RunError: If the disk or the quota is full.
    """
    try:
        yield
    except RunError:
        raise
    except Exception as error:
        code = error.errno if isinstance(error, OSError) else None
        # Writers in native code (safetensors, parquet) wrap the system's error in a class of their own.
        named = [each for each in _FULL if each == code or os.strerror(each) in str(error)]
        if not named:
            raise
        raise write_failure(path, OSError(named[0], os.strerror(named[0]))) from error


def write_atomically(path: Path, data: bytes | str) -> None:
    """Writes a whole file: readers see the old content or the new, never a part.

    Args:
        path: Final file; its folder is made if it is missing.
        data: Content; text is written as UTF-8.

    Raises:
        RunError: If the file cannot be written; names the path and what to do.
    """
    content = data.encode("utf-8") if isinstance(data, str) else data
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def remove_leftovers(folder: Path) -> None:
    """Removes temporary files that a killed process left behind; only the holder of the folder's lock may call it."""
    for leftover in folder.glob(f".*{TEMPORARY_SUFFIX}"):
        with contextlib.suppress(OSError):
            leftover.unlink()


def _concerns(error: OSError, path: Path, temporary: Path) -> bool:
    """Whether an error of the block is about the file being written, not about something else that the block reads."""
    if error.filename is None:
        return True
    place = Path(os.fsdecode(error.filename))
    return place in (path, temporary) or path.is_relative_to(place)


def sync(path: Path) -> None:
    """Forces a file's or folder's content to disk.

    Raises:
        OSError: If it is missing, or the disk cannot take it.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder; the rename has still happened in order.
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):
            raise
    finally:
        os.close(descriptor)
