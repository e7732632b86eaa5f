"""Addresses of files on the web and in object stores: what one may be, what lies there, and its first bytes.

Web servers are asked by this package's own requests; s3, gs and az through obstore, hf through huggingface_hub, each as
a file system of fsspec.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from collm.errors import DataError
from collm.fetching.http_transfer import TransferFailed, peek
from collm.visible import SECRET_NAME, shown

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

WEB = ("https", "http")
STORES = ("s3", "gs", "az")
_OTHERS = ("hf", "file", "memory")
PROTOCOLS = (*WEB, *STORES, *_OTHERS)
_WILDCARD = re.compile(r"[*?\[]")
_TIMEOUT_S = 30.0
_FROM_ENVIRONMENT = (
    "s3:// reads AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_SKIP_SIGNATURE=true for public buckets), gs:// "
    "GOOGLE_APPLICATION_CREDENTIALS, az:// AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, hf:// HF_TOKEN"
)
# What a store tells of a version of a file, the surest first.
_TAGS = ("e_tag", "ETag", "etag", "blob_id", "last_modified", "LastModified", "mtime", "created")


class UnreachableError(DataError):
    """There is no way to the server now; what was copied before may be used."""


@dataclass(frozen=True)
class RemotePart:
    """One file at an address.

    Attributes:
        name: Its name below the address, with `/`; its own name where the address is that of one file.
        location: Its whole address.
        size: Bytes; None where the server does not say.
        tag: What distinguishes this version from others; None where the server says nothing of the kind.
    """

    name: str
    location: str
    size: int | None
    tag: str | None


def protocol_of(address: str) -> str:
    """Returns the part before `://`, in lower case."""
    return address.partition("://")[0].lower()


def address_fault(address: str) -> str | None:
    """Returns why an address cannot be used, without the secret it may hold; None where it can."""
    protocol = protocol_of(address)
    if protocol not in PROTOCOLS:
        return f"addresses may begin with {', '.join(f'{each}://' for each in PROTOCOLS if each != 'memory')}"
    try:
        parts = urlsplit(address)
        names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    except ValueError as error:
        return f"not an address ({error})"
    if "@" in parts.netloc or any(SECRET_NAME.search(name) for name in names):
        return (
            "an address may not hold a user, password or key, which specs, records and messages would show. "
            f"{_FROM_ENVIRONMENT}; what a web server gives after a login alone must be a file on this machine"
        )
    if protocol in WEB and not parts.netloc:
        return "the address names no server"
    if protocol in WEB and _WILDCARD.search(parts.path):
        return "a web server has no list of its files, so there are no patterns: name one file"
    if protocol not in WEB and parts.query and not _WILDCARD.search(address):
        return f"an address of {protocol}:// has no part after '?'"
    if not parts.path.strip("/"):
        return "the address names no file"
    return None


def address_name(address: str) -> str:
    """Returns the last part of an address: a name of a file or folder, or a pattern."""
    return PurePosixPath(urlsplit(address).path if protocol_of(address) in WEB else address).name


def remote_parts(address: str) -> tuple[RemotePart, ...]:
    """Asks what lies at an address: one file, the files of a folder and its folders, or those that fit a pattern.

    Returns:
        Sorted by name; empty where a pattern fits nothing.

    Raises:
        UnreachableError: If the server cannot be reached now.
        DataError: If there is nothing, access is refused, or a package is missing.
    """
    if protocol_of(address) in WEB:
        return (_web_part(address),)
    system, path = _system(address)
    with _named(address):
        if _WILDCARD.search(path):
            found = system.glob(path, detail=True)
            root = path[: _WILDCARD.search(path).start()].rpartition("/")[0]  # type: ignore[union-attr]
            # A pattern may fit folders, which stand for the files in them.
            for name, info in list(found.items()):
                if info["type"] == "directory":
                    found |= system.find(name, detail=True)
            files = {name: info for name, info in found.items() if info["type"] == "file"}
        elif system.info(path)["type"] == "file":
            # Of obstore, `info` names the path without its bucket.
            files, root = {path: system.info(path)}, path.rpartition("/")[0]
        else:
            files, root = system.find(path, detail=True), path
    return tuple(
        RemotePart(
            name=name.removeprefix(root).lstrip("/"),
            location=f"{protocol_of(address)}://{name}",
            size=int(info["size"]) if info.get("size") is not None else None,
            tag=_tag(info),
        )
        for name, info in sorted(files.items())
    )


@contextmanager
def opened(part: RemotePart) -> Iterator[Any]:
    """Opens a file of an object store for reading bytes at any place; not for web servers.

    Raises:
        UnreachableError: If the server cannot be reached now.
        DataError: If it cannot be read.
    """
    system, path = _system(part.location)
    with _named(part.location), system.open(path, "rb") as stream:
        yield stream


def first_bytes(part: RemotePart, n_bytes: int) -> bytes:
    """Reads the beginning of a file.

    Raises:
        UnreachableError: If the server cannot be reached now.
        DataError: If it cannot be read.
    """
    if protocol_of(part.location) in WEB:
        return bytes(_peek(part.location, n_bytes)[1])
    with opened(part) as stream:
        return bytes(stream.read(n_bytes))


def _web_part(address: str) -> RemotePart:
    version, _ = _peek(address, 0)
    return RemotePart(address_name(address), address, version.size, version.validator)


def _peek(address: str, n_bytes: int) -> Any:
    try:
        return peek(address, n_bytes, timeout_s=_TIMEOUT_S)
    except TransferFailed as failure:
        kind = UnreachableError if failure.passing else DataError
        raise kind(f"{address}: {failure}") from failure


def _tag(info: dict[str, Any]) -> str | None:
    lfs = info.get("lfs")
    found = getattr(lfs, "sha256", None) or next((info[name] for name in _TAGS if info.get(name) is not None), None)
    return None if found is None else str(found)


def _system(address: str) -> tuple[AbstractFileSystem, str]:
    """Returns the file system of an address, and the path in it."""
    import fsspec

    protocol, _, path = address.partition("://")
    if protocol not in STORES:
        system = fsspec.filesystem(protocol, use_listings_cache=False, skip_instance_cache=protocol != "memory")
        return system, system._strip_protocol(address)
    if importlib.util.find_spec("obstore") is None:
        raise DataError(f"{address}: needs the package obstore: pip install 'collm[cloud]'")
    from obstore.fsspec import FsspecStore

    return FsspecStore(protocol), path


@contextmanager
def _named(address: str) -> Iterator[None]:
    """Turns what file systems raise into errors that name the address."""
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{address}: there is no such file or folder") from error
    except PermissionError as error:
        raise DataError(f"{address}: access is refused; {_FROM_ENVIRONMENT}") from error
    except ImportError as error:
        raise DataError(f"{address}: needs a package that is not installed ({error})") from error
    except Exception as error:
        # Each store has exceptions of its own; nothing but reading from it is done in the block.
        said = shown(str(error)).strip().splitlines()
        raise UnreachableError(
            f"{address}: cannot be read ({type(error).__name__}: {said[0] if said else ''})"
        ) from error
