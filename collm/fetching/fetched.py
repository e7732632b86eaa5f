"""Fetched files in the cache: getting them once, recording what they are, and finding them again."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

from collm.cache import making
from collm.component import BuildContext
from collm.errors import DataError
from collm.fetching.download import Patience, download
from collm.fetching.remote_files import Digests, RemoteFile, RemoteSet, digests_of, size_text

_RECORD = ".fetched.json"

logger = logging.getLogger(__name__)


def fetch_files(remote: RemoteSet, context: BuildContext, *, patience: Patience | None = None) -> tuple[Path, ...]:
    """Gets the files into the cache, once; several processes may do so at the same time.

    A file that was put there by hand is checked like a downloaded one. Beside each file, `<name>.fetched.json` records
    where it came from, its size and its sha256, and what that was compared with.

    Args:
        remote: The files and their terms of use.
        context: Where the cache is, and a mirror to use in place of the published addresses.
        patience: How often to try; None = the default.

    Returns:
        Their paths.

    Raises:
        DataError: If a file cannot be had, is not the published one, or the disk cannot take it.
    """
    logger.info("terms of use: %s", remote.licence)
    paths = cached_paths(remote, context)
    for file, target in zip(remote.files, paths, strict=True):
        with making(target):
            _fetch(file, target, remote=remote, context=context, patience=patience or Patience())
    return paths


def cached_paths(remote: RemoteSet, context: BuildContext) -> tuple[Path, ...]:
    """Returns where the files lie once they are fetched."""
    return tuple(context.cache_dir / remote.folder / file.name for file in remote.files)


def fetched_paths(remote: RemoteSet, context: BuildContext, *, needed: str, otherwise: str) -> tuple[Path, ...]:
    """Returns the fetched files; nothing is downloaded.

    Args:
        remote: The files.
        context: Where the cache is.
        needed: Who needs what, the beginning of the message, e.g. "dataset.path: 'ml-1m' needs ratings.dat".
        otherwise: What else a user can do, e.g. "give the folder in dataset.path".

    Raises:
        DataError: If a file is missing; names the command that gets it.
    """
    paths = cached_paths(remote, context)
    if all(path.is_file() for path in paths):
        return paths
    sizes = [file.size for file in remote.files if file.size is not None]
    total = f"{size_text(sum(sizes))} " if len(sizes) == len(paths) else ""
    raise DataError(f"{needed}, not fetched yet: run '{remote.command}' ({total}from {_hosts(remote)}), or {otherwise}")


def _fetch(file: RemoteFile, target: Path, *, remote: RemoteSet, context: BuildContext, patience: Patience) -> None:
    record = target.with_name(target.name + _RECORD)
    recorded = _read_record(record)
    if target.exists():
        _check_present(file, target, recorded, command=remote.command)
        return
    url = file.address(context.mirror)
    size = "" if file.size is None else f", {size_text(file.size)}"
    logger.info("%s: downloading from %s%s", file.name, url, size)
    expected = file
    if file.compared_with == "first download" and recorded is not None:
        expected = replace(file, size=recorded.size, sha256=recorded.sha256)
    try:
        found = download(expected, target, url=url, by_hand=_by_hand(remote, context), patience=patience)
    except DataError as error:
        if expected == file or recorded is None:
            raise
        raise DataError(
            f"{error} (compared with the first download, as {record} records it: delete that file to accept another)"
        ) from error
    _write_record(record, file, found, url=url)


def _check_present(file: RemoteFile, target: Path, recorded: Digests | None, *, command: str) -> None:
    """Trusts a recorded file by its size, and computes everything of one that was put there by hand."""
    if recorded is not None:
        size = target.stat().st_size
        if size != recorded.size:
            raise DataError(
                f"{target}: has {size:,} bytes, {recorded.size:,} when it was fetched; delete it and repeat '{command}'"
            )
        logger.info("%s: fetched before", file.name)
        return
    found = digests_of(target)
    fault = file.fault(target, found)
    if fault is not None:
        raise DataError(f"{target}: not the published file: {fault}; delete it and repeat '{command}'")
    _write_record(target.with_name(target.name + _RECORD), file, found, url=None)


def _read_record(path: Path) -> Digests | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Digests(size=int(content["bytes"]), sha256=str(content["sha256"]), md5=str(content["md5"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a record of a fetched file ({error}); delete it and repeat") from error


def _write_record(path: Path, file: RemoteFile, found: Digests, *, url: str | None) -> None:
    basis = file.compared_with
    content = {
        "published": file.url,
        "fetched_from": url or "put there by hand",
        "bytes": found.size,
        "sha256": found.sha256,
        "md5": found.md5,
        "compared_with": basis,
    }
    # Cleared by the next `making` where the process ends before the name is changed.
    temporary = path.with_name(f".{path.name.removesuffix(_RECORD)}.record.tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)
    if basis == "first download":
        logger.info("%s: no hash is published; sha256 of this first download is %s", file.name, found.sha256)
    else:
        logger.info("%s: has the %s", file.name, basis)


def _by_hand(remote: RemoteSet, context: BuildContext) -> str:
    missing = [
        f"{file.url} as {path}"
        for file, path in zip(remote.files, cached_paths(remote, context), strict=True)
        if not path.exists()
    ]
    return (
        f"without network access, save {' and '.join(missing)}, and repeat '{remote.command}', which checks what it "
        "finds; COLLM_MIRROR names a mirror"
    )


def _hosts(remote: RemoteSet) -> str:
    return ", ".join(dict.fromkeys("/".join(file.url.split("/")[:3]) for file in remote.files))
