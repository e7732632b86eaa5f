"""Copies of what lies at addresses, kept in the cache by the digest of their bytes.

`addresses/contents/<sha256>` holds bytes, each once; `addresses/<name>.json` records, per address, the size, version
and digest of each file when it was last asked; `addresses/views/<digest>/` holds the files under their own names.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from collm.cache import making
from collm.component import BuildContext
from collm.errors import DataError
from collm.fetching.addresses import (
    WEB,
    RemotePart,
    UnreachableError,
    address_name,
    opened,
    protocol_of,
    remote_parts,
)
from collm.fetching.download import Patience, download, shown_progress
from collm.fetching.remote_files import RemoteFile, digests_of, size_text
from collm.files import write_atomically

_CHUNK_BYTES = 4 << 20
_KEY_DIGITS = 32

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CopiedFile:
    """What is recorded of one file.

    Attributes:
        size: Bytes.
        tag: Version as the server named it; None where it does not name versions.
        sha256: Hex digest of the bytes.
    """

    size: int
    tag: str | None
    sha256: str


@dataclass(frozen=True)
class AddressCopy:
    """What lay at an address, on this machine.

    Attributes:
        address: The address.
        path: The file, or the folder of the files.
        files: Name below the address -> what is recorded.
    """

    address: str
    path: Path
    files: Mapping[str, CopiedFile]

    def said(self) -> str:
        """Returns address, size and digest in words."""
        size = size_text(sum(each.size for each in self.files.values()))
        if len(self.files) == 1:
            (only,) = self.files.values()
            return f"{self.address}: {size}, sha256 {only.sha256}"
        return f"{self.address}: {len(self.files):,} files, {size}, sha256 of names and digests {_digest(self.files)}"


def has_copy(address: str, context: BuildContext) -> bool:
    """Whether a whole copy was made before, of whatever version."""
    known = _read(_record(address, context))
    return bool(known) and all(_content(context, each).is_file() for each in known.values())


def address_copy(
    address: str,
    context: BuildContext,
    *,
    wanted: Callable[[str], bool] = lambda _: True,
    patience: Patience | None = None,
) -> AddressCopy:
    """Copies what lies at an address into the cache, where it is not there in the version that the server names.

    Where the server cannot be reached, an earlier copy is used with a warning.

    Args:
        address: An address without fault.
        context: Where the cache is, and a mirror to use in place of web servers.
        wanted: Which files of a folder or pattern count, by their names.
        patience: How often to try; None = the default.

    Raises:
        DataError: If there is nothing, or it cannot be copied; names the address.
    """
    record = _record(address, context)
    with making(record):
        known = _read(record)
        try:
            parts = [part for part in remote_parts(address) if wanted(part.name)]
        except UnreachableError as error:
            if not has_copy(address, context):
                raise
            logger.warning("%s; the copy that was made before is used: whether it has changed is not known", error)
            return _view(address, known, context)
        if not parts:
            raise DataError(f"{address}: there are no files that fit")
        if strange := [part.name for part in parts if ".." in part.name.split("/")]:
            raise DataError(f"{address}: '{strange[0]}' is not a name of a file below it")
        files = {part.name: _file(part, known.get(part.name), context, patience or Patience()) for part in parts}
        _tell_changes(address, known, files)
        content = {"address": address, "files": {name: asdict(each) for name, each in files.items()}}
        write_atomically(record, json.dumps(content, indent=1) + "\n")
        return _view(address, files, context)


def _file(part: RemotePart, known: CopiedFile | None, context: BuildContext, patience: Patience) -> CopiedFile:
    """Returns what is recorded of a file, downloading it where it may have changed."""
    is_same = known is not None and known.tag == part.tag is not None and part.size in (None, known.size)
    if known is not None and is_same and _content(context, known).is_file():
        return known
    folder = context.cache_dir / "addresses" / "arriving" / _key(part.location)
    target = folder / Path(part.name).name
    target.unlink(missing_ok=True)
    size = "" if part.size is None else f", {size_text(part.size)}"
    logger.info("%s: downloading%s", part.location, size)
    if protocol_of(part.location) in WEB:
        remote = RemoteFile(part.location, size=part.size)
        by_hand = "without network access, get the file in another way and name it in place of the address"
        found = download(remote, target, url=remote.address(context.mirror), by_hand=by_hand, patience=patience)
    else:
        _copy(part, target)
        found = digests_of(target)
    copied = CopiedFile(found.size, part.tag, found.sha256)
    content = _content(context, copied)
    content.parent.mkdir(parents=True, exist_ok=True)
    target.replace(content)
    shutil.rmtree(folder, ignore_errors=True)
    return copied


def _copy(part: RemotePart, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    done = 0
    with opened(part) as source, target.open("wb") as stream, shown_progress(target.name) as on_bytes:
        while chunk := source.read(_CHUNK_BYTES):
            stream.write(chunk)
            done += len(chunk)
            on_bytes(done, part.size)
    if part.size is not None and done != part.size:
        raise DataError(f"{part.location}: {done:,} of {part.size:,} bytes arrived; repeat the command")


def _tell_changes(address: str, known: Mapping[str, CopiedFile], files: Mapping[str, CopiedFile]) -> None:
    if not known:
        return
    both = known.keys() & files.keys()
    changed = sorted(name for name in both if known[name].sha256 != files[name].sha256)
    counts = {"changed": len(changed), "new": len(files.keys() - both), "gone": len(known.keys() - both)}
    if any(counts.values()):
        summary = ", ".join(f"{n} {what}" for what, n in counts.items() if n)
        logger.warning("%s: files changed since they were last copied: %s", address, summary)


def _view(address: str, files: Mapping[str, CopiedFile], context: BuildContext) -> AddressCopy:
    """Makes the folder in which the files have their own names; links, so that bytes are on the disk once."""
    folder = context.cache_dir / "addresses" / "views" / _digest(files)[:_KEY_DIGITS]
    for name, each in files.items():
        path = folder / name
        if path.is_file() and path.stat().st_size == each.size:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            os.link(_content(context, each), temporary)
        except OSError:
            shutil.copyfile(_content(context, each), temporary)
        temporary.replace(path)
    # A pattern and a folder stay a folder, whatever number of files there is: their names may say something.
    only = address_name(address) if len(files) == 1 else ""
    return AddressCopy(address, folder / only if only in files else folder, files)


def _record(address: str, context: BuildContext) -> Path:
    return context.cache_dir / "addresses" / f"{_key(address)}.json"


def _content(context: BuildContext, file: CopiedFile) -> Path:
    return context.cache_dir / "addresses" / "contents" / file.sha256


def _digest(files: Mapping[str, CopiedFile]) -> str:
    return hashlib.sha256("".join(f"{name}\0{files[name].sha256}\n" for name in sorted(files)).encode()).hexdigest()


def _key(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()[:_KEY_DIGITS]


def _read(record: Path) -> dict[str, CopiedFile]:
    try:
        files = json.loads(record.read_text(encoding="utf-8"))["files"]
        return {name: CopiedFile(**each) for name, each in files.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{record}: not a record of a copied address ({error}); delete it and repeat") from error
