"""The server's address and life: bound before the model loads, ended by a signal after what was taken is answered."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn

from collm.errors import UsageError
from collm.serve.app import Served
from collm.serve.gate import GateRules
from collm.serve.worker import Room
from collm.trained.model import TrainedModel
from collm.trained.recommend import recommend

SHORTEST_TOKEN = 16
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
_MOST_CONNECTIONS = 512


@dataclass(frozen=True)
class ServeSettings:
    """How a run is served.

    Attributes:
        token: What requests must carry; None = nothing.
        max_rows: Rows of one request at most.
        queue_rows: Rows that may wait for the model.
        stop_s: Seconds after a signal in which what was taken is answered.
        debug: Whether the log has the traceback of an unexpected error.
    """

    token: str | None
    max_rows: int
    queue_rows: int
    stop_s: int
    debug: bool = False


def check_token(token: str, *, source: str) -> str:
    """Returns a token without the blanks around it.

    Raises:
        UsageError: If it is short or cannot appear in a header; its text is not repeated.
    """
    token = token.strip()
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(
            f"{source}: holds {len(token)} characters; a token has at least {SHORTEST_TOKEN}, all of them ASCII and "
            "none a blank, e.g. the output of `openssl rand -hex 32`"
        )
    return token


def bind(host: str, port: int, *, with_token: bool) -> socket.socket:
    """Returns a socket that is bound to an address, and does not listen yet.

    Raises:
        UsageError: If the address is reachable from other machines and there is no token, or it cannot be bound.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--host {host}: is not an address of this machine ({error})") from error
    family, kind, protocol, _, address = found[0]
    if not with_token and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise UsageError(
            f"--host {host}: other machines could ask, so a token is needed: give --token-file FILE or set "
            "COLLM_SERVE_TOKEN; without one, leave --host at 127.0.0.1"
        )
    bound = socket.socket(family, kind, protocol)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise UsageError(_taken(f"--host {host} --port {port}", error)) from error
    return bound


def _taken(what: str, error: OSError) -> str:
    return f"{what}: cannot be listened on ({error.strerror}); choose another --port, or 0 for any free one"


def address_of(bound: socket.socket) -> str:
    """Returns the address that clients use."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def load(model: TrainedModel) -> None:
    """Loads all weights and asks one question, so that what cannot be served is known before the first request."""
    recommend(model, model.data.user_ids[1], k=1, shortlist=1, include_seen=True)


def serve(model: TrainedModel, bound: socket.socket, settings: ServeSettings, *, tell: Callable[[str], None]) -> None:
    """Serves a loaded run until SIGTERM or SIGINT; a second SIGINT does not wait for what was taken.

    Args:
        model: The run; nothing else may use it from now on.
        bound: Where to listen.
        settings: How.
        tell: Tells the operator what happens.
    """
    rules = GateRules(token=settings.token, hosts=() if settings.token else LOOPBACK_NAMES)
    room = Room(waiting_rows=settings.queue_rows)
    served = Served(model, rules=rules, room=room, max_rows=settings.max_rows, tell=tell)
    config = uvicorn.Config(
        served.app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=settings.stop_s,
        ws="none",
    )
    server = _Announcing(config, lambda at: tell(f"listening on {at}; its page is /docs; Ctrl-C ends it"))
    with _signals_end_here(), _told(settings, tell):
        server.run(sockets=[bound])
    done = served.thread.load()
    tell(f"stopped: {done.answered:,} requests answered, {done.failed:,} failed")


class _Announcing(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[str], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        address = address_of((sockets or [])[0])
        try:
            await super().startup(sockets=sockets)
        except OSError as error:
            raise UsageError(_taken(address, error)) from error
        self._announce(address)


@contextmanager
def _signals_end_here() -> Iterator[None]:
    """Keeps the signals that ended the server from ending the command, too: uvicorn raises them again."""
    old = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


class _Teller(logging.Handler):
    """Tells the operator what uvicorn logs, in one line each."""

    def __init__(self, settings: ServeSettings, tell: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._settings, self._tell = settings, tell

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, asyncio.CancelledError) or "Invalid HTTP request" in record.msg:
            return  # the first are counted in a line of their own; anybody can cause the second
        if error is not None and self._settings.debug:
            self._tell("".join(traceback.format_exception(error)))
        elif error is not None:
            self._tell(f"unexpected {type(error).__name__}: {error}; start with `collm --debug serve` to see where")
        elif record.msg.startswith("Cancel "):
            n_left = record.args[0] if isinstance(record.args, tuple) else "some"
            self._tell(f"not answered within --stop-seconds {self._settings.stop_s}: {n_left} requests")
        else:
            self._tell(record.getMessage())


@contextmanager
def _told(settings: ServeSettings, tell: Callable[[str], None]) -> Iterator[None]:
    logger, handler = logging.getLogger("uvicorn.error"), _Teller(settings, tell)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
