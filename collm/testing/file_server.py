"""A web server on this machine that misbehaves on request, for tests of what is fetched."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


@dataclass(frozen=True)
class Answer:
    """How one request is answered; the default is what a good server does.

    Attributes:
        status: Status code; anything but 200 sends no file.
        headers: Sent besides the usual ones.
        cut_after: Bytes of the body after which the connection is closed; None = all are sent.
        damage: Whether the last byte sent is another one.
        silent: Whether nothing is sent any more, after `cut_after` bytes or from the beginning.
        no_ranges: Whether a request for a part gets the whole file.
        no_length: Whether the length is left out (the end of the connection is the end of the file).
        chunked: Whether the body is sent in chunks instead of with a length.
        as_part: Headers of a 206 answer to send whatever was asked; None = as asked.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    damage: bool = False
    silent: bool = False
    no_ranges: bool = False
    no_length: bool = False
    chunked: bool = False
    as_part: str | None = None


GOOD = Answer()


class FileServer:
    """Serves bytes by path on 127.0.0.1 while the `with` block runs.

    Attributes:
        files: Path, e.g. `/data/x.gz`, -> content; may be changed at any time.
        answers: Taken one per request, in order; when they are used up, requests get good answers.
        requests: (path, Range header or None) of every request so far.
        validators: Whether ETag and Last-Modified are sent.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        """Takes the files; the server starts with the block."""
        self.files = dict(files)
        self.answers: deque[Answer] = deque()
        self.requests: list[tuple[str, str | None]] = []
        self.validators = True
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True

    @property
    def address(self) -> str:
        """Returns the base address, without a slash at its end."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FileServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()


def _handler(server: FileServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.close_connection = True
            answer = server.answers.popleft() if server.answers else GOOD
            server.requests.append((self.path, self.headers.get("Range")))
            content = server.files.get(self.path)
            if answer.silent and answer.cut_after is None:
                server.closing.wait()
            elif answer.status != 200 or content is None:
                status = answer.status if answer.status != 200 else 404
                self._head(status, {"Content-Length": "0", **answer.headers})
            else:
                self._send(content, answer)

        def _send(self, content: bytes, answer: Answer) -> None:
            headers = {"ETag": _etag(content), "Last-Modified": _EPOCH} if server.validators else {}
            asked = None if answer.no_ranges else self.headers.get("Range")
            first, end = _asked_bytes(asked, self.headers.get("If-Range"), headers, len(content))
            is_part = first > 0 or end < len(content)
            if is_part and first >= len(content):
                self._head(416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": "0"})
                return
            body = content[first:end]
            if answer.chunked:
                headers["Transfer-Encoding"] = "chunked"
            elif not answer.no_length:
                headers["Content-Length"] = str(len(body))
            if is_part:
                headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(content)}"
            if answer.as_part is not None:
                headers["Content-Range"] = answer.as_part
            self._head(206 if is_part or answer.as_part is not None else 200, {**headers, **answer.headers})
            self._body(body, answer)

        def _body(self, body: bytes, answer: Answer) -> None:
            whole = answer.cut_after is None
            sent = body if whole else body[: answer.cut_after]
            if answer.damage and sent:
                sent = sent[:-1] + bytes([sent[-1] ^ 0xFF])
            if answer.chunked:
                sent = b"%x\r\n%s\r\n" % (len(body), sent) + (b"0\r\n\r\n" if whole else b"")
            self.wfile.write(sent)
            if answer.silent:
                server.closing.wait()

        def _head(self, status: int, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    return Handler


_EPOCH = "Thu, 01 Jan 1970 00:00:00 GMT"


def _etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:16]}"'


def _asked_bytes(asked: str | None, condition: str | None, headers: Mapping[str, str], size: int) -> tuple[int, int]:
    """Returns the first byte and the place after the last one; all bytes where the condition does not hold any more."""
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", asked or "")
    if match is None or (condition is not None and condition not in headers.values()):
        return 0, size
    return int(match[1]), min(int(match[2]) + 1, size) if match[2] else size
