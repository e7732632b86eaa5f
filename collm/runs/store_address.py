"""Addresses of object stores: which can be used, and what stores raise turned into errors in words."""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Iterator
from urllib.parse import parse_qsl, urlsplit

from collm.errors import RunError, UsageError
from collm.fetching.addresses import STORES
from collm.visible import SECRET_NAME, shown

# Of these there is nothing to write to.
_READ_ONLY = ("http", "https", "data", "github", "git", "zip", "tar", "hf")
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, or the role of the machine",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY",
}
_REFUSED = re.compile(r"\b(?:401|403|AccessDenied|Forbidden|InvalidAccessKeyId|SignatureDoesNotMatch)\b")
_NO_CREDENTIALS = re.compile(r"169\.254\.169\.254|metadata\.google|security-credentials|metadata/identity")
NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|bucket does not exist", re.IGNORECASE)
_UNREACHED = re.compile(r"error sending request|connection|timed out|dns", re.IGNORECASE)
_SAID = re.compile(r"<Code>(.*?)</Code>\s*<Message>(.*?)</Message>", re.DOTALL)
_LONGEST_SAID = 160


def check_address(address: str) -> None:
    """Refuses what cannot be an address of a store.

    Raises:
        UsageError: If it holds a password or key, names no place, or is of a kind that no one can write to.
    """
    protocol, _, rest = address.partition("://")
    parts = urlsplit(address)
    names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    login = parts.netloc.rpartition("@")[0]
    if ":" in login or (login and protocol in STORES) or any(SECRET_NAME.search(name) for name in names):
        raise UsageError(
            f"{protocol}://...: an address may not hold a user's password or key, which logs and records would show; "
            f"credentials come from the environment ({_credentials(protocol)})"
        )
    if protocol in _READ_ONLY:
        raise UsageError(f"{shown(address)}: runs cannot be written to {protocol}://; give e.g. s3://bucket/runs")
    if not rest.strip("/") and protocol != "memory":
        raise UsageError(f"{shown(address)}: names no place; give e.g. {protocol}://bucket/runs")
    if protocol in STORES:
        if importlib.util.find_spec("obstore") is None:
            raise UsageError(f"{shown(address)}: needs the package obstore: pip install 'collm[cloud]'")
        return
    import fsspec

    if protocol not in fsspec.available_protocols():
        near = "s3://bucket/runs, gs://bucket/runs, az://container/runs or an address that fsspec knows"
        raise UsageError(f"{shown(address)}: '{shown(protocol)}://' is not known; give a folder, {near}")


@contextlib.contextmanager
def named(place: str, what: str) -> Iterator[None]:
    """Turns what stores raise into one error that names the place, the cause and what to do.

    Args:
        place: Address of what is read or written.
        what: What cannot be done, e.g. `cannot be read`.

    Raises:
        RunError: For whatever the block raises.
    """
    try:
        yield
    except RunError:
        raise
    except Exception as error:
        # Each store has exceptions of its own; nothing but speaking to it is done in the block.
        raise RunError(f"{shown(place)}: {what}: {_cause(error, place)}") from error


def _cause(error: Exception, place: str) -> str:
    text, protocol = str(error), place.partition("://")[0]
    said = _said(error)
    if isinstance(error, ImportError):
        return f"a package is missing ({said}); install it"
    if _NO_CREDENTIALS.search(text):
        return f"there are no credentials; they come from {_credentials(protocol)}: set them, and repeat the command"
    if NO_BUCKET.search(text):
        return "there is no such bucket; make it or choose another with --runs-dir, and repeat the command"
    if isinstance(error, PermissionError) or "Unauthenticated" in type(error).__name__ or _REFUSED.search(text):
        return f"access is refused ({said}); look at {_credentials(protocol)}, and repeat the command"
    if isinstance(error, FileNotFoundError):
        return "it is missing in the store"
    if _UNREACHED.search(said):
        said = f"the server cannot be reached ({said})"
    return f"{said}; repeat the command: what is finished is kept"


def _said(error: Exception) -> str:
    text = str(error)
    if found := _SAID.search(text):
        return shown(f"{found[1]}: {found[2]}")
    lines = text.strip().splitlines()
    # Of obstore, the cause comes last, after the request and its retries.
    first = shown(lines[0]).rpartition(" - ")[2] if lines else type(error).__name__
    return first if len(first) <= _LONGEST_SAID else f"{first[:_LONGEST_SAID]}..."


def _credentials(protocol: str) -> str:
    return _CREDENTIALS.get(protocol, "those that fsspec reads for it")
