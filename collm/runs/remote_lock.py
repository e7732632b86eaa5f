"""Locks in an object store: an object that names its holder, created only where there is none, and renewed."""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import asdict

from collm.errors import InUse, RunError
from collm.locks import Holder, WaitingLock
from collm.runs.objects import Held, Objects

logger = logging.getLogger(__name__)
# A holder renews its lock this often; one that was not renewed for so long is taken over, and further locks of the same
# process after that when they were not renewed twice in a row.
RENEW_S = 20.0
LOST_S = 120.0
_POLL_S = 2.0


class RemoteLock(WaitingLock):
    """A context manager around one lock object; the caller holds the lock of the mirror's folder already.

    A lock that this mirror has left is therefore one of a process that is gone, and is taken over at once. One of
    another machine is taken over when it was not renewed for `LOST_S` while this process looked: clocks may differ.
    """

    def __init__(
        self,
        objects: Objects,
        key: str,
        *,
        mirror: str,
        wait: bool,
        on_wait: Callable[[str], None] | None = None,
    ) -> None:
        """Prepares the lock; nothing is written yet.

        Args:
            objects: The store; it must write on a condition.
            key: The lock object.
            mirror: What distinguishes the folder of this machine that mirrors the store.
            wait: Whether to wait for a live holder instead of raising.
            on_wait: Called once with a sentence when waiting begins.
        """
        super().__init__(wait=wait, on_wait=on_wait)
        self._objects, self._key, self._mirror = objects, key, mirror
        self._token = secrets.token_hex(8)
        self._renewals = 0
        self._tag = ""
        self._released = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self) -> None:
        """Takes the lock.

        Raises:
            InUse: If another machine holds it and waiting is off.
            RunError: If the store cannot be written.
        """
        while not self._try():
            other = self._objects.read(self._key)
            if other is None or self._is_ours(other) or (self._is_left(other) and self._take_over(other)):
                continue
            said = f"{self._objects.address}/{self._key}: in use by {_named(other)}"
            if not self._wait:
                raise InUse(f"{said}; it is free when that run ends, or {LOST_S:g} seconds after its process is gone")
            self._wait_a_moment(_POLL_S, f"{said}: waiting for it")
        self._released.clear()
        self._thread = threading.Thread(target=self._renew, name="remote-lock", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Gives the lock back; does nothing where another machine has taken it over."""
        self._released.set()
        if self._thread is not None:
            self._thread.join()
        try:
            held = self._objects.read(self._key)
            if held is not None and _record(held).get("token") == self._token:
                self._objects.delete(self._key)
        except RunError as error:
            logger.warning("%s; the lock is taken over when it was not renewed for %g seconds", error, LOST_S)

    def _try(self) -> bool:
        if self._tag:
            return True
        self._tag = self._objects.create(self._key, self._content()) or ""
        return bool(self._tag)

    def _is_ours(self, other: Held) -> bool:
        """Whether the object is what this process wrote: an answer that was lost on its way is asked for again."""
        if _record(other).get("token") == self._token:
            self._tag = other.tag
        return bool(self._tag)

    def _is_left(self, other: Held) -> bool:
        """Whether the holder is gone, as far as can be seen."""
        if _record(other).get("mirror") == self._mirror:
            return True
        place = f"{self._objects.address}/{self._key}"
        before, since = _seen.get(place, ("", 0.0))
        if before != other.tag:
            since = time.monotonic()
            _seen[place] = (other.tag, since)
        limit = min(LOST_S, 2 * RENEW_S) if _named(other) in _gone else LOST_S
        return time.monotonic() - since > limit

    def _take_over(self, other: Held) -> bool:
        """Puts this holder in place of one that is gone; False where another machine was faster."""
        self._tag = self._objects.replace(self._key, self._content(), other.tag) or ""
        if self._tag:
            _gone.add(_named(other))
            logger.info("%s/%s: taken over from %s", self._objects.address, self._key, _named(other))
        return bool(self._tag)

    def _renew(self) -> None:
        while not self._released.wait(RENEW_S):
            try:
                self._renewals += 1
                tag = self._objects.replace(self._key, self._content(), self._tag)
                if tag is None:
                    held = self._objects.read(self._key)
                    if held is None or _record(held).get("token") != self._token:
                        taken = "" if held is None else f" by {_named(held)}"
                        logger.warning(
                            "%s/%s: not renewed in time and taken over%s: the same work may be done twice, and "
                            "the last put counts",
                            self._objects.address,
                            self._key,
                            taken,
                        )
                        return
                    tag = held.tag
                self._tag = tag
            except RunError as error:
                # The store may be there again at the next renewal.
                logger.debug("%s", error)

    def _content(self) -> bytes:
        holder = asdict(Holder.this_process())
        return json.dumps({**holder, "mirror": self._mirror, "token": self._token, "renewals": self._renewals}).encode()


# Locks of other machines that this process has looked at -> their version, and when it was first seen (monotonic).
_seen: dict[str, tuple[str, float]] = {}
# Holders of which this process has taken over a lock.
_gone: set[str] = set()


def _record(held: Held) -> dict[str, object]:
    try:
        content = json.loads(held.data)
        return content if isinstance(content, dict) else {}
    except ValueError:
        return {}


def _named(held: Held) -> str:
    record = _record(held)
    try:
        return str(Holder(int(str(record["pid"])), str(record["host"]), float(str(record["start"]))))
    except (KeyError, ValueError):
        return "a holder that its record does not name"
