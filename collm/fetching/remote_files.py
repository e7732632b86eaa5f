"""What a plugin declares of files that can be downloaded, and whether a file at hand is the declared one."""

from __future__ import annotations

import gzip
import hashlib
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from collm.errors import DataError

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Digests:
    """Size and hashes of a file's bytes, the latter in hex."""

    size: int
    sha256: str
    md5: str


@dataclass(frozen=True)
class RemoteFile:
    """One published file.

    Attributes:
        url: Where it is published (https, or http where there is nothing else).
        size: Bytes; None where the publisher does not say.
        sha256: Hex digest of the published file; None where none is known for certain.
        md5: As `sha256`; used where only this one is published.
    """

    url: str
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None

    @property
    def name(self) -> str:
        """File name, as published."""
        return urlsplit(self.url).path.rpartition("/")[2]

    @property
    def compared_with(self) -> str:
        """What a file is compared with: `published sha256`, `published md5` or `first download`."""
        if self.sha256 is not None:
            return "published sha256"
        return "published md5" if self.md5 is not None else "first download"

    def address(self, mirror: str | None) -> str:
        """Returns the published address, or the same host and path below a mirror, as `wget -x` makes one."""
        if mirror is None:
            return self.url
        parts = urlsplit(self.url)
        return f"{mirror.rstrip('/')}/{parts.netloc}{parts.path}"

    def fault(self, path: Path, found: Digests) -> str | None:
        """Returns what is wrong with a complete file, in words; None where all is well.

        Where no hash is published, the checksums inside a gz or zip are computed instead.

        Raises:
            DataError: If it cannot be read.
        """
        if self.size is not None and found.size != self.size:
            return f"it has {found.size:,} bytes, the published file {self.size:,}"
        if self.sha256 is not None:
            return None if found.sha256 == self.sha256 else f"its sha256 is {found.sha256}, published is {self.sha256}"
        if self.md5 is not None:
            return None if found.md5 == self.md5 else f"its md5 is {found.md5}, published is {self.md5}"
        return _archive_fault(path, suffix=Path(self.name).suffix)


@dataclass(frozen=True)
class RemoteSet:
    """The files of one dataset that are fetched together.

    Attributes:
        folder: Folder below the cache that holds them, e.g. `ml-1m`.
        command: The command line that fetches them.
        files: The files.
        licence: Terms of use, in a sentence or two, shown before each download.
    """

    folder: str
    command: str
    files: tuple[RemoteFile, ...]
    licence: str


def size_text(n_bytes: int) -> str:
    """Returns a number of bytes for a reader: "5.9 MB"."""
    value = float(n_bytes)
    for unit in ("bytes", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def digests_of(path: Path) -> Digests:
    """Reads a file once for its size and hashes.

    Raises:
        DataError: If it cannot be read.
    """
    sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                sha256.update(chunk)
                md5.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    return Digests(size, sha256.hexdigest(), md5.hexdigest())


def _archive_fault(path: Path, *, suffix: str) -> str | None:
    try:
        if suffix == ".gz":
            with gzip.open(path) as stream:
                while stream.read(_CHUNK_BYTES):
                    pass
        elif suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
            return None if damaged is None else f"its member '{damaged}' is damaged"
    except (EOFError, zlib.error, zipfile.BadZipFile, gzip.BadGzipFile) as error:
        return f"it is not a sound {suffix[1:]} file ({error})"
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    return None
