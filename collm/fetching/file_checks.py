"""Whether a downloaded file is whole and the published one: size, hashes, and the archive's own checksums."""

from __future__ import annotations

import gzip
import hashlib
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from collm.errors import DataError
from collm.fetching.remote_files import RemoteFile

_CHUNK_BYTES = 1 << 20
Basis = Literal["published sha256", "published md5", "first download"]


@dataclass(frozen=True)
class Digests:
    """Size and hashes of a file's bytes, the latter in hex."""

    size: int
    sha256: str
    md5: str


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


def basis_of(file: RemoteFile) -> Basis:
    """Returns what a file of this declaration is compared with."""
    if file.sha256 is not None:
        return "published sha256"
    return "published md5" if file.md5 is not None else "first download"


def fault_of(file: RemoteFile, path: Path, found: Digests) -> str | None:
    """Compares a complete file with its declaration.

    Where no hash is published, the checksums inside a gz or zip are computed instead.

    Args:
        file: What is published of it.
        path: The file.
        found: Its digests.

    Returns:
        What is wrong, in words; None where all is well.

    Raises:
        DataError: If it cannot be read.
    """
    if file.size is not None and found.size != file.size:
        return f"it has {found.size:,} bytes, the published file {file.size:,}"
    if file.sha256 is not None:
        return None if found.sha256 == file.sha256 else f"its sha256 is {found.sha256}, published is {file.sha256}"
    if file.md5 is not None:
        return None if found.md5 == file.md5 else f"its md5 is {found.md5}, published is {file.md5}"
    return _archive_fault(path, suffix=Path(file.name).suffix)


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
