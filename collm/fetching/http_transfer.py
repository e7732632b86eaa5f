"""One HTTP request for the rest of a file, and what its failures mean."""

from __future__ import annotations

import email.utils
import http.client
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http import HTTPStatus
from typing import IO, Any

import collm
from collm.fetching.part_file import PartFile, Version

CHUNK_BYTES = 1 << 18
# What a server may answer for a while: all else is an answer that repeating does not change.
PASSING = {408, 425, 429, 500, 502, 503, 504}
_CONTENT_RANGE = re.compile(r"bytes ([0-9]+)-[0-9]+/([0-9]+|\*)")

Progress = Callable[[int, int | None], None]


class TransferFailed(Exception):
    """A request that did not bring the file.

    Attributes:
        passing: Whether the same request may succeed later.
        unreachable: Whether there is no way to the server at all.
        wait_s: Seconds that the server asks to wait; None where it does not say.
    """

    def __init__(self, reason: str, *, passing: bool, unreachable: bool = False, wait_s: float | None = None) -> None:
        """Takes the reason in words and what it means for another try."""
        super().__init__(reason)
        self.passing, self.unreachable, self.wait_s = passing, unreachable, wait_s


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


def transfer_rest(url: str, part: PartFile, *, size: int | None, timeout_s: float, progress: Progress) -> None:
    """Asks once for the bytes that are missing and appends them.

    A server that has another version of the file now, or that cannot give a part of it, makes the download start again
    from the first byte; never are bytes of two versions put together.

    Args:
        url: Address.
        part: What has arrived; holds more afterwards, also where this fails.
        size: Bytes that the whole file must have, None where unknown.
        timeout_s: Seconds without any byte after which the connection counts as dead.
        progress: Called with the bytes that have arrived and those of the whole file.

    Raises:
        TransferFailed: If not all bytes arrived; says whether to try again.
        DataError: If the disk cannot take them.
    """
    if part.version is not None and (part.version.url != url or part.version.validator is None):
        part.remove()
    opener = urllib.request.build_opener(_SafeRedirects)
    try:
        with opener.open(_request(url, part), timeout=timeout_s) as response:
            total = _agree(url, response, part, size=size)
            with part.open() as stream:
                progress(part.size(), total)
                while chunk := response.read1(CHUNK_BYTES):
                    _check_length(part.size() + len(chunk), size if total is None else total, part)
                    part.append(stream, chunk)
                    progress(part.size(), total)
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.remove()
            raise TransferFailed("the file on the server has become shorter", passing=True) from error
        raise _status_failure(error) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _connection_failure(error) from error
    if total is not None and part.size() != total:
        raise TransferFailed(f"the connection ended after {part.size():,} of {total:,} bytes", passing=True)


def _check_length(arrived: int, allowed: int | None, part: PartFile) -> None:
    if allowed is not None and arrived > allowed:
        part.remove()
        raise TransferFailed(
            f"the server sends more than the {allowed:,} bytes that the file has: an error page, or another file",
            passing=False,
        )


def _request(url: str, part: PartFile) -> urllib.request.Request:
    # `identity`: a server that compresses on the way would count other bytes than those of the file.
    headers = {"User-Agent": f"collm/{collm.__version__}", "Accept-Encoding": "identity"}
    if part.size() and part.version is not None and part.version.validator is not None:
        headers |= {"Range": f"bytes={part.size()}-", "If-Range": part.version.validator}
    return urllib.request.Request(url, headers=headers)


def _agree(url: str, response: http.client.HTTPResponse, part: PartFile, *, size: int | None) -> int | None:
    """Compares what the server begins to send with what is there; returns the size of the whole file."""
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        known = part.version
        total = int(match[2]) if match and match[2].isdigit() else None
        fits = match is not None and int(match[1]) == part.size() and total is not None
        if known is None or not fits or not known.is_same(Version.of(url, response.headers, total)):
            part.remove()
            raise TransferFailed("the file on the server is not the one that the download began with", passing=True)
    else:
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isascii() and length.isdigit() else None
        if total is None and not getattr(response, "chunked", False):
            raise TransferFailed("the server does not say how long it is, so a cut would go unseen", passing=False)
        if size is not None and total is not None and total != size:
            raise TransferFailed(
                f"the server offers {total:,} bytes, the published file has {size:,}: an error page, or another file",
                passing=False,
            )
        part.begin(Version.of(url, response.headers, total))
    part.check_space(total)
    return total


def _status_failure(error: urllib.error.HTTPError) -> TransferFailed:
    words = {404: "there is no such file", 401: "it asks for a login", 403: "it refuses access", 410: "it has gone"}
    said = words.get(error.code, error.reason or "no reason given")
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
    return TransferFailed(
        f"no connection: {words}", passing=True, unreachable=isinstance(cause, ConnectionRefusedError)
    )
