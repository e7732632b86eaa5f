"""What every request passes before it is read: who may ask, how large it may be, how long its body may take."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# They say nothing of the run, and a browser sends no token when it opens them.
OPEN_PATHS = ("/docs", "/openapi.json")


@dataclass(frozen=True)
class GateRules:
    """What is let through.

    Attributes:
        token: What the header `Authorization: Bearer TOKEN` must hold; None = anybody may ask.
        hosts: Values of the header `Host`, without port, that are let through where there is no token, so that a web
            page under another name, which a browser on this machine shows, cannot ask.
        max_bytes: Bytes of a body at most.
        body_s: Seconds that a body may take.
    """

    token: str | None
    hosts: Sequence[str] = ()
    max_bytes: int = 4 * 2**20
    body_s: float = 20.0


class Gate:
    """Lets requests through to an application."""

    def __init__(self, app: ASGIApp, rules: GateRules) -> None:
        """Takes the application behind the gate."""
        self._app, self._rules = app, rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers what may not pass, and hands on everything else."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if refusal := self._refusal(scope["path"], headers):
            await _refuse(send, *refusal)
            return
        await self._app(scope, _Limited(receive, self._rules), send)

    def _refusal(self, path: str, headers: Headers) -> tuple[int, str] | None:
        rules = self._rules
        if rules.token is None:
            host = headers.get("host", "")
            name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
            if name.lower() not in rules.hosts:
                allowed = ", ".join(rules.hosts)
                return 421, f"Host: got '{host[:100]}', allowed without a token are {allowed}; start with --token-file"
        elif path not in OPEN_PATHS and not _holds(headers.get("authorization", ""), rules.token):
            return 401, "Authorization: must be `Bearer TOKEN` with the token that the server was started with"
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > rules.max_bytes:
            return 413, _too_large(rules.max_bytes, got=f"{int(length):,}")
        return None


class _Limited:
    """Receives a body as long as it keeps to the rules."""

    def __init__(self, receive: Receive, rules: GateRules) -> None:
        self._receive, self._rules = receive, rules
        self._n_bytes, self._ended = 0, False
        self._deadline = asyncio.get_running_loop().time() + rules.body_s

    async def __call__(self) -> Message:
        if self._ended:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError as error:
            raise HTTPException(408, f"the body did not arrive within {self._rules.body_s:g} s") from error
        self._n_bytes += len(message.get("body", b""))
        self._ended = not message.get("more_body", False)
        if self._n_bytes > self._rules.max_bytes:
            raise HTTPException(413, _too_large(self._rules.max_bytes, got="more"))
        return message


def _holds(header: str, token: str) -> bool:
    scheme, _, given = header.partition(" ")
    # Of constant time, so that how long the answer takes says nothing of the token.
    return hmac.compare_digest(given.strip().encode(), token.encode()) and scheme.lower() == "bearer"


def _too_large(most: int, *, got: str) -> str:
    return f"the body has {got} bytes, at most {most:,} are taken; ask in several requests"


async def _refuse(send: Send, status: int, sentence: str) -> None:
    body = json.dumps({"error": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
