"""One HTTP request for the rest of a file, what its failures mean, and the file that takes the bytes meanwhile."""

from __future__ import annotations

import contextlib
import email.utils
import errno
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from email.message import Message
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any

import collm
from collm.errors import DataError
from collm.fetching.remote_files import size_text

CHUNK_BYTES = 1 << 18
# Answers that another try may change.
PASSING = {408, 425, 429, 500, 502, 503, 504}
_STATUS = {404: "there is no such file", 401: "a login is required", 403: "it refuses access", 410: "no longer there"}
_OTHER = "an error page, or another file"
_CONTENT_RANGE = re.compile(r"bytes ([0-9]+)-[0-9]+/([0-9]+|\*)")

# Called with the bytes that have arrived and those of the whole file.
OnBytes = Callable[[int, int | None], None]


class TransferFailed(Exception):
    """A request that did not bring the file.

    Attributes:
        passing: Whether the same request may succeed later.
        unreachable: Whether there is no way to the server at all.
        wait_s: Seconds that the server demands to wait; None where it does not say.
    """

    def __init__(self, reason: str, *, passing: bool, unreachable: bool = False, wait_s: float | None = None) -> None:
        """Takes the reason in words and what it means for another try."""
        super().__init__(reason)
        self.passing, self.unreachable, self.wait_s = passing, unreachable, wait_s


@dataclass(frozen=True)
class Version:
    """What distinguishes one version of a remote file from another: address, bytes, ETag, Last-Modified."""

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
        """Whether two responses are of one version; what only one of them states is not compared."""
        pairs = [(self.etag, other.etag), (self.modified, other.modified)]
        stated = [left == right for left, right in pairs if left is not None and right is not None]
        return self.url == other.url and self.size == other.size and bool(stated) and all(stated)

    @property
    def validator(self) -> str | None:
        """What a server can compare; None = a later download cannot go on from this one."""
        return self.etag or self.modified


class PartFile:
    """`<name>.part` beside the final file, with `<name>.part.json` that says of which version it is.

    What writes raises `DataError` where the disk does not take it; what has arrived before stays.
    """

    def __init__(self, target: Path) -> None:
        """Opens what an earlier download left; a part of unknown version is removed."""
        self.target = target
        self.path = target.with_name(f"{target.name}.part")
        self._note = target.with_name(f"{target.name}.part.json")
        try:
            self.version: Version | None = Version(**json.loads(self._note.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            self.version = None
        if self.version is None or (self.version.size is not None and self.size() > self.version.size):
            self.remove()

    def size(self) -> int:
        """Returns the bytes that have arrived."""
        return self.path.stat().st_size if self.path.exists() else 0

    def is_complete(self) -> bool:
        """Whether all bytes of the version have arrived."""
        return self.version is not None and self.version.size is not None and self.size() == self.version.size

    def begin(self, version: Version) -> None:
        """Removes what has arrived and takes bytes of this version from now on."""
        self.remove()
        self.version = version
        with self._writing():
            self._note.parent.mkdir(parents=True, exist_ok=True)
            self._note.write_text(json.dumps(asdict(version)) + "\n", encoding="utf-8")

    def check_space(self, size: int | None) -> None:
        """Compares what is still to come of `size` bytes (None = unknown) with what the disk has left."""
        folder = next(path for path in self.path.parents if path.exists())
        free, missing = shutil.disk_usage(folder).free, (size or 0) - self.size()
        if missing > free:
            raise DataError(
                f"{self.target}: {size_text(missing)} are still to be downloaded and {size_text(free)} are free there; "
                "free some space, or set COLLM_CACHE to a folder on another disk"
            )

    def append(self, chunk: bytes) -> None:
        """Writes a chunk, unbuffered, so that it is in the file whatever ends the process."""
        view = memoryview(chunk)
        with self._writing(), self.path.open("ab", buffering=0) as stream:
            while view:
                view = view[stream.write(view) :]

    def publish(self) -> None:
        """Gives the finished file its name, whole and on disk."""
        with self._writing():
            with self.path.open("rb+") as stream:
                os.fsync(stream.fileno())
            self.path.replace(self.target)
        self.remove()

    def remove(self) -> None:
        """Removes the part and its note."""
        self.version = None
        for path in (self.path, self._note):
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            advice = "free some space" if full else "make the folder writable"
            raise DataError(
                f"{self.path}: cannot be written ({error.strerror or error}); {advice}, or set COLLM_CACHE to another "
                "folder, and repeat the command: what has arrived is kept"
            ) from error


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from an encrypted address to a plain one."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Refuses what would lower the protection."""
        scheme = newurl.partition(":")[0].lower()
        if scheme not in ("http", "https") or (req.type == "https" and scheme != "https"):
            raise TransferFailed(f"the server redirects to {newurl}, which is not safe", passing=False)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def transfer_rest(url: str, part: PartFile, *, size: int | None, timeout_s: float, on_bytes: OnBytes) -> None:
    """Requests the bytes that are missing, once, and appends them.

    A server that has another version of the file now, or that cannot give a part of it, makes the download start again
    from the first byte; bytes of two versions are never put together.

    Args:
        url: Address.
        part: What has arrived; holds more afterwards, also where this fails.
        size: Bytes that the whole file must have, None where unknown.
        timeout_s: Seconds without any byte after which the connection counts as dead.
        on_bytes: Called after each chunk.

    Raises:
        TransferFailed: If not all bytes arrived; says whether to try again.
        DataError: If the disk cannot take them.
    """
    if part.version is not None and (part.version.url != url or part.version.validator is None):
        part.remove()
    # `identity`: a server that compresses on the way would count other bytes than those of the file.
    headers = {"User-Agent": f"collm/{collm.__version__}", "Accept-Encoding": "identity"}
    if part.size() and part.version is not None and part.version.validator is not None:
        headers |= {"Range": f"bytes={part.size()}-", "If-Range": part.version.validator}
    opener = urllib.request.build_opener(_SafeRedirects)
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=timeout_s) as response:
            total = _agree(url, response, part, size=size)
            allowed = size if total is None else total
            on_bytes(part.size(), total)
            while chunk := response.read1(CHUNK_BYTES):
                if allowed is not None and part.size() + len(chunk) > allowed:
                    part.remove()
                    reason = f"the server sends more than the {allowed:,} bytes that the file has: {_OTHER}"
                    raise TransferFailed(reason, passing=False)
                part.append(chunk)
                on_bytes(part.size(), total)
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.remove()
            raise TransferFailed("the file on the server has become shorter", passing=True) from error
        raise _status_failure(error) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _connection_failure(error) from error
    if total is not None and part.size() != total:
        raise TransferFailed(f"the connection ended after {part.size():,} of {total:,} bytes", passing=True)


def peek(url: str, n_bytes: int, *, timeout_s: float) -> tuple[Version, bytes]:
    """Asks which version of a file a server has, and reads its first bytes.

    Args:
        url: Address.
        n_bytes: Bytes to read at most, 0 or more.
        timeout_s: Seconds without any byte after which the connection counts as dead.

    Returns:
        The version, its size None where the server does not say; and the bytes, fewer where the file has fewer.

    Raises:
        TransferFailed: If the server cannot be reached or does not give the file.
    """
    headers = {"User-Agent": f"collm/{collm.__version__}", "Accept-Encoding": "identity"}
    # Without it a server begins to send all of the file.
    headers["Range"] = f"bytes=0-{max(n_bytes, 1) - 1}"
    opener = urllib.request.build_opener(_SafeRedirects)
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=timeout_s) as response:
            match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
            whole = match[2] if match else response.headers.get("Content-Length", "")
            size = int(whole) if whole.isascii() and whole.isdigit() else None
            return Version.of(url, response.headers, size), response.read(n_bytes)
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return Version.of(url, error.headers, 0), b""
        raise _status_failure(error) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _connection_failure(error) from error


def _agree(url: str, response: http.client.HTTPResponse, part: PartFile, *, size: int | None) -> int | None:
    """Compares what the server begins to send with what is there; returns the size of the whole file."""
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        total = int(match[2]) if match and match[2].isdigit() else None
        fits = match is not None and int(match[1]) == part.size() and total is not None
        if part.version is None or not fits or not part.version.is_same(Version.of(url, response.headers, total)):
            part.remove()
            raise TransferFailed("the file on the server is not the one that the download began with", passing=True)
    else:
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isascii() and length.isdigit() else None
        if total is None and not getattr(response, "chunked", False):
            reason = "the server sent no Content-Length, so a cut download could not be detected"
            raise TransferFailed(reason, passing=False)
        if size is not None and total is not None and total != size:
            reason = f"the server offers {total:,} bytes, the published file has {size:,}: {_OTHER}"
            raise TransferFailed(reason, passing=False)
        part.begin(Version.of(url, response.headers, total))
    part.check_space(total)
    return total


def _status_failure(error: urllib.error.HTTPError) -> TransferFailed:
    said = _STATUS.get(error.code, error.reason or "no reason given")
    error.close()
    wait_s = _retry_after(error.headers.get("Retry-After") if error.headers else None)
    return TransferFailed(f"the server answers {error.code}: {said}", passing=error.code in PASSING, wait_s=wait_s)


def _retry_after(value: str | None) -> float | None:
    """Reads seconds or a date."""
    if value is None:
        return None
    # Of isdigit() alone, digits of other scripts and superscripts would count too.
    if value.strip().isascii() and value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def _connection_failure(error: Exception) -> TransferFailed:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return TransferFailed(f"the server's certificate cannot be verified: {cause.verify_message}", passing=False)
    if isinstance(cause, TimeoutError):
        return TransferFailed("the server sends nothing any more (timeout)", passing=True)
    if isinstance(cause, socket.gaierror):
        return TransferFailed("the name of the server cannot be resolved", passing=True, unreachable=True)
    if isinstance(cause, http.client.InvalidURL) or (isinstance(cause, ValueError) and not isinstance(cause, OSError)):
        return TransferFailed(f"the address cannot be used: {cause}", passing=False)
    if isinstance(cause, http.client.IncompleteRead | http.client.RemoteDisconnected | ConnectionResetError):
        return TransferFailed("the connection was cut", passing=True)
    words = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause) or type(cause).__name__
    refused = isinstance(cause, ConnectionRefusedError)
    return TransferFailed(f"no connection: {words}", passing=True, unreachable=refused)
