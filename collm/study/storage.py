"""Where a study's trials are kept: an address without its password in any text, Optuna's storage, and one lock over it.

The lock is held while a command decides what to run next, so counts, repeats and takeovers are decided once. Both kinds
of lock (a locked file, a lock of the database session) end with the process that holds them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

import filelock
import optuna
import sqlalchemy
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from collm.errors import Problem, RunError, UsageError
from collm.spec.node import Node
from collm.visible import without_passwords

StorageKind = Literal["journal", "sqlite", "postgresql"]
FORMS = "journal:PATH, sqlite:///PATH or postgresql://USER@HOST/DATABASE"
_POLL_S = 0.02
_APPEND_POLL_S = 0.001
_LONGEST_LINE = 1 << 20
# What every line of a journal has.
_ENTRY = ("op_code", "worker_id")


@dataclass(frozen=True)
class StorageAddress:
    """An address that can be shown: the password is left out of `str` and `repr`.

    Attributes:
        kind: Which storage.
        path: File of a journal or sqlite storage.
        url: Address for SQLAlchemy, password included; never show it.
    """

    kind: StorageKind
    path: Path | None = None
    url: str = field(default="", repr=False)

    def __str__(self) -> str:
        if self.kind == "journal":
            return f"journal:{self.path}"
        return f"sqlite:///{self.path}" if self.kind == "sqlite" else without_passwords(self.url)

    def __repr__(self) -> str:
        return f"StorageAddress({self})"

    def clean(self, text: str) -> str:
        """Returns a text without this address's password, however it is written."""
        text = without_passwords(text)
        secret = re.search(r"://[^:/@\s]*:([^\s]*)@", self.url)
        for password in {secret.group(1), unquote(secret.group(1))} if secret else ():
            if password:
                text = text.replace(password, "***")
        return text


def read_address(node: Node | None, default: Path, problems: list[Problem]) -> StorageAddress:
    """Reads `study.storage`.

    Args:
        node: The value; None where it is left out.
        default: Journal file that is used then.
        problems: Takes what is wrong, without any password.
    """
    if node is not None and isinstance(node.value, str):
        try:
            return _parsed(node.value, node.place.folder)
        except ValueError as error:
            problems.append(node.place.problem(str(error), "study.storage"))
    return StorageAddress("journal", default)


def _parsed(text: str, folder: Path) -> StorageAddress:
    """Returns the address of a text.

    Raises:
        ValueError: If it is not an address; the message holds no password.
    """
    if "\0" in text:
        raise ValueError("holds a NUL byte, so it cannot be an address")
    # Blanks in an address belong to its password.
    shown = without_passwords(re.sub(r"(://[^:]*):.*@", r"\1:***@", text, flags=re.DOTALL))
    found = re.match(r"(journal:|sqlite:///)(.+)", text, flags=re.DOTALL)
    if found is not None:
        try:
            path = Path(os.path.abspath(folder / Path(found[2]).expanduser()))
        except RuntimeError as error:
            raise ValueError(f"'{shown}' cannot be expanded: {error}") from error
        return (
            StorageAddress("journal", path)
            if found[1] == "journal:"
            else StorageAddress("sqlite", path, f"sqlite:///{path}")
        )
    if not re.match(r"postgresql(\+\w+)?://", text):
        raise ValueError(f"'{shown}' must be {FORMS}")
    try:
        url = sqlalchemy.make_url(text)
    # Raised with parts of the address in its message, the password among them.
    except (ArgumentError, ValueError):
        url = None
    if url is None or not url.database:
        advice = "write %40 for @, %3A for : and %2F for / in user and password"
        raise ValueError(f"'{shown}' cannot be read as an address: {advice}") from None
    driver = "postgresql+psycopg" if url.drivername == "postgresql" else url.drivername
    return StorageAddress("postgresql", None, url.set(drivername=driver).render_as_string(hide_password=False))


class StudyStorage:
    """An open storage."""

    def __init__(self, address: StorageAddress) -> None:
        """Opens the storage, which is made where it does not exist.

        Raises:
            RunError: If it cannot be reached or read; the message holds no password.
            UsageError: If the database driver is not installed.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.address = address
        self._depth = 0
        with self.guard():
            self.optuna, self._engine = _open(address)

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """Turns errors of the storage into a `RunError` without password or chained traceback."""
        try:
            yield
        except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
            # A damaged journal, and nothing else, makes Optuna's reading of it end like this.
            if self.address.kind != "journal" or self.address.path is None:
                raise
            if fault := journal_fault(self.address.path):
                raise RunError(fault) from error
            raise
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError) as error:
            cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
            reason = self.address.clean(f"{type(cause).__name__}: {cause}").split("\n(Background", maxsplit=1)[0]
            raise RunError(f"study storage {self.address}: {reason}") from None

    @contextlib.contextmanager
    def lock(self, study: str) -> Iterator[None]:
        """Holds a study, so that no other command decides about its trials; may be entered again by the holder."""
        if self._depth:
            yield
            return
        with self.guard(), self._lock(study):
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1

    def _lock(self, study: str) -> contextlib.AbstractContextManager[None]:
        if self._engine is not None and self.address.kind == "postgresql":
            return _session_lock(self._engine, study)
        assert self.address.path is not None
        return _file_lock(self.address.path)


def _open(address: StorageAddress) -> tuple[BaseStorage, Any]:
    """Opens the storage; tables are made under a lock, because workers may start at the same moment."""
    if address.kind == "postgresql":
        try:
            engine = sqlalchemy.create_engine(address.url, poolclass=sqlalchemy.NullPool)
        except ImportError as error:
            raise UsageError(
                f"{address}: the database driver is missing ({error}); install it: pip install 'collm[postgresql]'"
            ) from None
        with _session_lock(engine, ""):
            # Connections are tried before use: a study outlives restarts of its database.
            storage = RDBStorage(address.url, engine_kwargs={"pool_pre_ping": True, "pool_size": 4})
        return get_storage(storage), storage.engine
    assert address.path is not None
    address.path.parent.mkdir(parents=True, exist_ok=True)
    if address.kind == "sqlite":
        with _file_lock(address.path):
            storage = RDBStorage(address.url, engine_kwargs={"connect_args": {"timeout": 60}})
        return get_storage(storage), storage.engine
    return JournalStorage(JournalFileBackend(str(address.path), lock_obj=_JournalLock(address.path))), None


def journal_fault(path: Path) -> str:
    """Returns which line of a study's journal is damaged and what to do; empty where Optuna can read each line."""
    advice = (
        "the study cannot be read on from there. Keep a copy of the file, remove that line (what it says is lost), and "
        "repeat; or begin a new study with another `name`"
    )
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                entry = json.loads(line.decode("utf-8"))
            except (UnicodeDecodeError, ValueError) as error:
                if not line.endswith(b"\n"):
                    return ""
                return f"{path}: line {number} is damaged ({error}): {advice}"
            lacks = [key for key in _ENTRY if not (isinstance(entry, dict) and key in entry)]
            if lacks:
                return f"{path}: line {number} is damaged (it lacks {', '.join(lacks)}): {advice}"
    return ""


class _JournalLock(JournalFileOpenLock):  # type: ignore[misc]
    """Guards appends to a journal; a killed writer's lock is free at once and its torn last line is cut off.

    Optuna's own lock is a file that stays behind when its holder is killed, for half a minute, and a torn line would
    join the next one.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, filelock.FileLock(f"{path}.append")

    def acquire(self) -> bool:
        self._lock.acquire(poll_interval=_APPEND_POLL_S)
        _cut_torn_line(self._path)
        return True

    def release(self) -> None:
        self._lock.release()


def _cut_torn_line(path: Path) -> None:
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        if file.read(1) in (b"", b"\n"):
            return
        start = max(0, size - _LONGEST_LINE)
        file.seek(start)
        file.truncate(start + file.read().rfind(b"\n") + 1)


@contextlib.contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    with filelock.FileLock(f"{path}.claim").acquire(poll_interval=_POLL_S):
        yield


@contextlib.contextmanager
def _session_lock(engine: Any, study: str) -> Iterator[None]:
    number = int.from_bytes(hashlib.sha256(f"collm study {study}".encode()).digest()[:8], "big", signed=True)
    connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    try:
        # Tried again and again instead of waited for: an interrupt must get through.
        while not connection.execute(sqlalchemy.text("SELECT pg_try_advisory_lock(:n)"), {"n": number}).scalar():
            time.sleep(_POLL_S)
        yield
    finally:
        # A session that went away has given its lock back already.
        with contextlib.suppress(SQLAlchemyError):
            connection.execute(sqlalchemy.text("SELECT pg_advisory_unlock(:n)"), {"n": number})
        connection.close()
