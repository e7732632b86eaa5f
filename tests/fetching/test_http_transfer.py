"""What failures of a connection mean, for those that a server on this machine cannot bring about."""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path

import pytest

from collm.fetching import http_transfer
from collm.fetching.http_transfer import PartFile, TransferFailed, Version, transfer_rest


def unverifiable() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "failed")
    error.verify_message = "certificate has expired"
    return error


@pytest.mark.parametrize(
    ("error", "words", "passing", "unreachable"),
    [
        (urllib.error.URLError(unverifiable()), "cannot be verified: certificate has expired", False, False),
        (urllib.error.URLError(socket.gaierror(-2, "x")), "the name of the server cannot be resolved", True, True),
        (urllib.error.URLError(ConnectionRefusedError(111, "refused")), "no connection: refused", True, True),
        (urllib.error.URLError("unknown url type: gopher"), "unknown url type", True, False),
        (TimeoutError(), "timeout", True, False),
        (OSError(101, "Network is unreachable"), "no connection: Network is unreachable", True, False),
        (http.client.IncompleteRead(b""), "the connection was cut", True, False),
        (ConnectionResetError(104, "reset"), "the connection was cut", True, False),
        (http.client.BadStatusLine("?"), "no connection", True, False),
    ],
)
def test_failures_in_words(
    error: Exception, words: str, passing: bool, unreachable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def open(self, request: urllib.request.Request, timeout: float) -> None:
            raise error

    monkeypatch.setattr(urllib.request, "build_opener", lambda _: Broken())
    with pytest.raises(TransferFailed, match=words) as caught:
        transfer_rest("https://x", PartFile(tmp_path / "x"), size=None, timeout_s=1, on_bytes=lambda *_: None)
    assert (caught.value.passing, caught.value.unreachable) == (passing, unreachable)


@pytest.mark.parametrize(
    ("here", "there", "safe"),
    [
        ("https://a/x", "https://b/x", True),
        ("http://a/x", "https://b/x", True),
        ("http://a/x", "http://b/x", True),
        ("https://a/x", "http://b/x", False),
        ("https://a/x", "ftp://b/x", False),
        ("http://a/x", "file:///etc/passwd", False),
    ],
)
def test_redirects_never_lower_the_protection(here: str, there: str, safe: bool) -> None:
    def follow() -> urllib.request.Request | None:
        request = urllib.request.Request(here, headers={"Range": "bytes=5-"})
        return http_transfer._SafeRedirects().redirect_request(request, io.BytesIO(), 302, "", Message(), there)

    if safe:
        followed = follow()
        assert followed is not None and followed.full_url == there and followed.headers["Range"] == "bytes=5-"
        return
    with pytest.raises(TransferFailed, match="which is not safe"):
        follow()


def test_versions() -> None:
    headers = Message()
    headers["etag"], headers["last-modified"] = '"1"', "yesterday"
    version = Version.of("u", headers, 5)
    assert version == Version("u", 5, '"1"', "yesterday") and version.validator == '"1"'
    assert version.is_same(Version("u", 5, '"1"')) and version.is_same(Version("u", 5, None, "yesterday"))
    for other in (
        Version("u", 5, '"2"', "yesterday"),
        Version("u", 5, '"1"', "today"),
        Version("u", 6, '"1"', "yesterday"),
        Version("v", 5, '"1"', "yesterday"),
        Version("u", 5),
    ):
        assert not version.is_same(other)
    headers.replace_header("etag", 'W/"1"')
    assert Version.of("u", headers, 5).validator == "yesterday"


def test_a_part_longer_than_its_file_is_not_used(tmp_path: Path) -> None:
    part = PartFile(tmp_path / "x")
    part.begin(Version("u", 3, '"1"'))
    part.append(b"abc")
    assert PartFile(tmp_path / "x").is_complete()
    part.append(b"d")
    again = PartFile(tmp_path / "x")
    assert (again.size(), again.version, list(tmp_path.iterdir())) == (0, None, [])


STRANGE_WAITS = ("\xb2", "", " ", "\u0661\u0662", "1e4", "-3", "Wed, 99 Foo 99999", "Mon, 01 Jan 0001 00:00:00 +2359")


@pytest.mark.parametrize("value", STRANGE_WAITS)
def test_a_strange_wait_is_no_bug(value: str) -> None:
    assert http_transfer._retry_after(value) in (None, 0.0)


def test_a_wait_in_seconds_or_as_a_date() -> None:
    assert http_transfer._retry_after(" 12 ") == 12.0
    assert http_transfer._retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert http_transfer._retry_after(None) is None
