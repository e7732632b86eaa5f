"""Objects at an address: read, written, created only where there is nothing, replaced only where nothing changed.

`s3://`, `gs://` and `az://` go through obstore, whose stores write on a condition; every other address through fsspec.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from collm.fetching.addresses import STORES
from collm.runs.store_address import NO_BUCKET, named

_RETRIES = {"max_retries": 5, "retry_timeout": timedelta(seconds=60)}
_CHUNK_BYTES = 8 << 20
# A version that no object has.
_OTHER = json.dumps({"e_tag": '"another"', "version": "1"})


@dataclass(frozen=True)
class Held:
    """An object's content.

    Attributes:
        data: Its bytes.
        tag: What distinguishes this version of it from others.
    """

    data: bytes
    tag: str


class Objects(Protocol):
    """The objects below one address; keys are relative to it, with `/`.

    All methods raise `RunError`, in words, where the store cannot be reached, refuses access or does not exist.
    """

    address: str

    def conditional(self) -> bool:
        """Whether `create` and `replace` are decided by the store; asked of the store once, with an object to try."""
        ...

    def read(self, key: str) -> Held | None:
        """Returns an object, None where there is none."""
        ...

    def write(self, key: str, data: bytes) -> None:
        """Writes an object, whatever was there."""
        ...

    def create(self, key: str, data: bytes) -> str | None:
        """Writes an object and returns its tag; None where there is one already."""
        ...

    def replace(self, key: str, data: bytes, tag: str) -> str | None:
        """Writes an object in place of the version with a tag and returns the new tag; None where it is not there."""
        ...

    def put_file(self, key: str, path: Path) -> None:
        """Writes an object from a file."""
        ...

    def get_file(self, key: str, path: Path) -> None:
        """Writes a file from an object; a missing one is an error."""
        ...

    def delete(self, key: str) -> None:
        """Removes an object, if it is there."""
        ...

    def folders(self) -> list[str]:
        """Returns the first parts of all keys, sorted; asks the store even where nothing is there."""
        ...


def open_objects(address: str, endpoint: str | None) -> Objects:
    """Returns the objects below an address; nothing is asked of the store yet.

    Args:
        address: What `check_address` let pass.
        endpoint: Address of the server, for `s3://` of other stores than Amazon's.

    Raises:
        RunError: If a package or a setting is missing.
    """
    protocol = address.partition("://")[0]
    with named(address, "cannot be opened"):
        return _StoreObjects(address, endpoint) if protocol in STORES else _FsspecObjects(address)


class _StoreObjects:
    def __init__(self, address: str, endpoint: str | None) -> None:
        from obstore.store import from_url

        self.address = address
        config: dict[str, Any] = {}
        if endpoint is not None and address.startswith("s3://"):
            config = {"config": {"endpoint": endpoint}}
        # Whoever writes http:// asks for it.
        plain = {"allow_http": True} if (endpoint or "").startswith("http://") else {}
        self._store = from_url(address, **config, client_options=plain, retry_config=_RETRIES)
        self._conditional: bool | None = None

    def conditional(self) -> bool:
        if self._conditional is None:
            key = f".collm-probe-{secrets.token_hex(8)}"
            self.create(key, b"")
            try:
                # Servers that do not know conditions ignore them.
                self._conditional = self.create(key, b"") is None and self.replace(key, b"", _OTHER) is None
            finally:
                self.delete(key)
        return self._conditional

    def read(self, key: str) -> Held | None:
        import obstore

        with self._named(key, "cannot be read"):
            try:
                found = obstore.get(self._store, key)
                return Held(bytes(found.bytes()), _tag(found.meta))
            except FileNotFoundError as error:
                if NO_BUCKET.search(str(error)):
                    raise
                return None

    def write(self, key: str, data: bytes) -> None:
        self._put(key, data, "overwrite")

    def create(self, key: str, data: bytes) -> str | None:
        return self._put(key, data, "create")

    def replace(self, key: str, data: bytes, tag: str) -> str | None:
        return self._put(key, data, json.loads(tag))

    def _put(self, key: str, data: bytes, mode: Any) -> str | None:
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with self._named(key, "cannot be written"):
            try:
                return _tag(obstore.put(self._store, key, data, mode=mode))
            except (AlreadyExistsError, PreconditionError):
                return None

    def put_file(self, key: str, path: Path) -> None:
        import obstore

        with self._named(key, "cannot be written"):
            obstore.put(self._store, key, path)

    def get_file(self, key: str, path: Path) -> None:
        import obstore

        with self._named(key, "cannot be read"), path.open("wb") as stream:
            for chunk in obstore.get(self._store, key).stream(min_chunk_size=_CHUNK_BYTES):
                stream.write(chunk)

    def delete(self, key: str) -> None:
        import obstore

        with self._named(key, "cannot be removed"), contextlib.suppress(FileNotFoundError):
            obstore.delete(self._store, key)

    def folders(self) -> list[str]:
        import obstore

        with named(self.address, "cannot be listed"):
            found = obstore.list_with_delimiter(self._store)
        return sorted(prefix.rstrip("/").rpartition("/")[2] for prefix in found["common_prefixes"])

    def _named(self, key: str, what: str) -> contextlib.AbstractContextManager[None]:
        return named(f"{self.address}/{key}", what)


class _FsspecObjects:
    def __init__(self, address: str) -> None:
        import fsspec

        self.address = address
        self._system, self._root = fsspec.core.url_to_fs(address, use_listings_cache=False)
        self._root = self._root.rstrip("/")

    def conditional(self) -> bool:
        # Of fsspec's file systems, only that of this process's memory creates in one step.
        return self.address.startswith("memory://")

    def read(self, key: str) -> Held | None:
        with self._named(key, "cannot be read"):
            try:
                data = bytes(self._system.cat_file(self._path(key)))
            except FileNotFoundError:
                return None
        return Held(data, hashlib.sha256(data).hexdigest())

    def write(self, key: str, data: bytes) -> None:
        with self._named(key, "cannot be written"):
            self._make_parent(key)
            self._system.pipe_file(self._path(key), data)

    def create(self, key: str, data: bytes) -> str | None:
        with self._named(key, "cannot be written"):
            try:
                self._system.pipe_file(self._path(key), data, mode="create")
            except FileExistsError:
                return None
        return hashlib.sha256(data).hexdigest()

    def replace(self, key: str, data: bytes, tag: str) -> str | None:
        before = self.read(key)
        if before is None or before.tag != tag:
            return None
        self.write(key, data)
        return hashlib.sha256(data).hexdigest()

    def put_file(self, key: str, path: Path) -> None:
        with self._named(key, "cannot be written"):
            self._make_parent(key)
            self._system.put_file(str(path), self._path(key))

    def get_file(self, key: str, path: Path) -> None:
        with self._named(key, "cannot be read"):
            self._system.get_file(self._path(key), str(path))

    def delete(self, key: str) -> None:
        with self._named(key, "cannot be removed"), contextlib.suppress(FileNotFoundError):
            self._system.rm_file(self._path(key))

    def folders(self) -> list[str]:
        with named(self.address, "cannot be listed"):
            try:
                found = self._system.ls(self._root, detail=True)
            except FileNotFoundError:
                return []
        return sorted(each["name"].rstrip("/").rpartition("/")[2] for each in found if each["type"] == "directory")

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _make_parent(self, key: str) -> None:
        self._system.makedirs(self._path(key).rpartition("/")[0], exist_ok=True)

    def _named(self, key: str, what: str) -> contextlib.AbstractContextManager[None]:
        return named(f"{self.address}/{key}", what)


def _tag(version: Any) -> str:
    """Returns the version of an object as text: stores tell versions apart by one of two values."""
    return json.dumps({name: version[name] for name in ("e_tag", "version") if version[name] is not None})
