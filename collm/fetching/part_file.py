"""A file on its way: the bytes that have arrived, and which version of the remote file they belong to."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from dataclasses import asdict, dataclass
from email.message import Message
from pathlib import Path
from typing import BinaryIO

from collm.errors import DataError
from collm.fetching.remote_files import size_text


@dataclass(frozen=True)
class Version:
    """What tells one version of a remote file from another.

    Attributes:
        url: Where it is.
        size: Bytes of the whole file; None where the server does not say.
        etag: The server's strong entity tag.
        modified: The server's Last-Modified.
    """

    url: str
    size: int | None
    etag: str | None = None
    modified: str | None = None

    @classmethod
    def of(cls, url: str, headers: Message, size: int | None) -> Version:
        """Reads the headers of a response; a weak tag does not promise equal bytes, so it counts as none."""
        etag = headers.get("ETag")
        return cls(url, size, None if etag is None or etag.startswith("W/") else etag, headers.get("Last-Modified"))

    def is_same(self, other: Version) -> bool:
        """Whether two responses are of one version; what only one of them tells is not compared."""
        pairs = [(self.etag, other.etag), (self.modified, other.modified)]
        told = [left == right for left, right in pairs if left is not None and right is not None]
        return self.url == other.url and self.size == other.size and bool(told) and all(told)

    @property
    def validator(self) -> str | None:
        """What a server can compare; None = a later download cannot go on from this one."""
        return self.etag or self.modified


class PartFile:
    """`<name>.part` beside the final file, with `<name>.part.json` that says of which version it is."""

    def __init__(self, target: Path) -> None:
        """Looks at what an earlier download left; parts of which nobody knows the version are worth nothing."""
        self.target = target
        self.path = target.with_name(f"{target.name}.part")
        self._note = target.with_name(f"{target.name}.part.json")
        self.version = self._read_note()
        if self.version is None or (self.version.size is not None and self.size() > self.version.size):
            self.remove()

    def size(self) -> int:
        """Returns the bytes that have arrived."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def is_complete(self) -> bool:
        """Whether all bytes of the version have arrived."""
        return self.version is not None and self.version.size is not None and self.size() == self.version.size

    def begin(self, version: Version) -> None:
        """Forgets what has arrived and takes bytes of this version from now on.

        Raises:
            DataError: If the disk cannot take the file.
        """
        self.remove()
        self.version = version
        try:
            self._note.parent.mkdir(parents=True, exist_ok=True)
            self._note.write_text(json.dumps(asdict(version)) + "\n", encoding="utf-8")
        except OSError as error:
            raise self._unwritable(error) from error

    def check_space(self, size: int | None) -> None:
        """Compares what is still to come with what the disk has left.

        Args:
            size: Bytes of the whole file; None = unknown, nothing is checked.

        Raises:
            DataError: If it does not fit.
        """
        if size is None:
            return
        folder = next(path for path in self.path.parents if path.exists())
        free, missing = shutil.disk_usage(folder).free, size - self.size()
        if missing > free:
            raise DataError(
                f"{self.target}: {size_text(missing)} are still to be downloaded and {size_text(free)} are free there; "
                "free some space, or set COLLM_CACHE to a folder on another disk"
            )

    def open(self) -> BinaryIO:
        """Opens the part for appending.

        Raises:
            DataError: If it cannot be written.
        """
        try:
            # Unbuffered, so that what has arrived is on record whatever ends the process.
            return self.path.open("ab", buffering=0)
        except OSError as error:
            raise self._unwritable(error) from error

    def append(self, stream: BinaryIO, chunk: bytes) -> None:
        """Writes a piece.

        Raises:
            DataError: If the disk does not take it; what has arrived before stays.
        """
        view = memoryview(chunk)
        try:
            while view:
                view = view[stream.write(view) :]
        except OSError as error:
            raise self._unwritable(error) from error

    def publish(self) -> None:
        """Gives the finished file its name, whole and on disk.

        Raises:
            DataError: If that fails.
        """
        try:
            with self.path.open("rb+") as stream:
                os.fsync(stream.fileno())
            self.path.replace(self.target)
        except OSError as error:
            raise self._unwritable(error) from error
        self.remove()

    def remove(self) -> None:
        """Removes the part and its note."""
        self.version = None
        for path in (self.path, self._note):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    def _read_note(self) -> Version | None:
        try:
            content = json.loads(self._note.read_text(encoding="utf-8"))
            return Version(**{name: content[name] for name in ("url", "size", "etag", "modified")})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _unwritable(self, error: OSError) -> DataError:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "free some space" if full else "make the folder writable"
        return DataError(
            f"{self.path}: cannot be written ({error.strerror or error}); {advice}, or set COLLM_CACHE to another "
            "folder, and repeat the command: what has arrived is kept"
        )
