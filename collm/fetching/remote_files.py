"""What a plugin declares of files that can be downloaded: addresses, sizes, hashes, terms of use."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


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

    def address(self, mirror: str | None) -> str:
        """Returns where to get it: the published address, or the same host and path below a mirror.

        Args:
            mirror: Base address of a mirror that holds one folder per host (as `wget -x` makes them), or None.
        """
        if mirror is None:
            return self.url
        parts = urlsplit(self.url)
        return f"{mirror.rstrip('/')}/{parts.netloc}{parts.path}"


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
