"""Digests of files and folders: read in pieces, once per process for as long as a file stays what it was."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from collm.errors import DataError

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
