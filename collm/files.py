"""Files: written whole or not at all, and digests of their contents."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from collm.errors import DataError, RunError

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


def temporary_for(path: Path) -> Path:
    """Returns a name in the same folder that no other process uses and `remove_leftovers` recognises."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")


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
    temporary = temporary_for(path)
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


# The change time cannot be set by a program: a copy that keeps the old modification time is seen, too.
_Key = tuple[str, int, int, int, int, int]
_known: dict[_Key, str] = {}
_guard = threading.Lock()
# File systems write times in steps: a file that changed a moment ago could change again without a sign.
_SETTLED_NS = 2_000_000_000
_CHUNK_BYTES = 1 << 20


def file_digest(path: Path) -> str:
    """Returns the hex SHA-256 of a file's bytes, read again only where the file changed within this process.

    Args:
        path: The file; a link counts as what it leads to.

    Raises:
        DataError: If it cannot be read.
    """

    def read() -> str:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    try:
        return _once(path, "", read)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def member_digest(archive: Path, member: str) -> str:
    """Returns the hex SHA-256 of a file inside a zip, read again only where the zip changed within this process.

    Args:
        archive: The zip.
        member: Its place in the zip.

    Raises:
        DataError: If it cannot be read, e.g. the zip is damaged.
    """

    def read() -> str:
        digest = hashlib.sha256()
        with zipfile.ZipFile(archive) as opened, opened.open(member) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest()

    try:
        return _once(archive, member, read)
    # What zipfile raises for damaged, encrypted and unknown members.
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, KeyError) as error:
        raise DataError(f"{archive}: '{member}' cannot be read ({error}); get the file again") from error


def _once(path: Path, part: str, read: Callable[[], str]) -> str:
    before = _key(path, part)
    with _guard:
        known = _known.get(before)
    if known is not None:
        return known
    found = read()
    after = _key(path, part)
    if after == before and time.time_ns() - max(after[-2:]) > _SETTLED_NS:
        with _guard:
            _known[after] = found
    return found


def place_digest(path: Path, patterns: Sequence[str] = ()) -> str:
    """Returns a hex digest of what lies at a place, whatever its name: a file's bytes, or names and bytes of a folder.

    Args:
        path: File or folder.
        patterns: Which files of a folder count, e.g. `*.safetensors`; empty = all, those of its folders included.

    Raises:
        DataError: If there is nothing, or something cannot be read.
    """
    if not path.is_dir():
        return file_digest(path)
    digest = hashlib.sha256()
    for name in folder_files(path, patterns):
        digest.update(f"{name}\0{file_digest(path / name)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def folder_files(folder: Path, patterns: Sequence[str] = ()) -> list[str]:
    """Returns the names of a folder's files relative to it, sorted; links count as what they lead to.

    Args:
        folder: The folder.
        patterns: Which files count; empty = all, those of its folders included.

    Raises:
        DataError: If a folder cannot be read.
    """
    if patterns:
        found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
        return sorted(path.relative_to(folder).as_posix() for path in found)

    def fail(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from error

    names = []
    for root, _, files in os.walk(folder, onerror=fail):
        paths = [Path(root) / name for name in files]
        # Sockets and pipes have no content that could be read to its end.
        names += [path.relative_to(folder).as_posix() for path in paths if path.is_file()]
    return sorted(names)


def _key(path: Path, part: str) -> _Key:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "not a file")
    return part, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
