"""What `collm runs pack` writes, read again: every file that a report needs is checked before it is used.

A zip comes from anywhere: no name in it decides where a file is written, no link is made, and what would unpack to far
more than a zip of runs can hold is refused.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

from pydantic import Field, ValidationError

from collm.errors import RunError
from collm.runs.records import Record
from collm.runs.store import DONE, RUN_FILES

MANIFEST = "manifest.json"
RUNS = "runs"
NEEDED = (DONE, "spec.yaml", "results.json", "scores.parquet")
# Parquet files do not shrink in a zip, and JSON and YAML shrink to a tenth or so.
LARGEST_RATIO = 100
ALWAYS_ALLOWED_BYTES = 64 << 20
_LARGEST_MANIFEST_BYTES = 64 << 20
_CHUNK_BYTES = 1 << 20
AGAIN = "get the file again, or pack the runs again"


class PackedFile(Record):
    """One file of a pack."""

    size: int = Field(ge=0, description="Bytes.")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="Hex digest of the bytes.")


class PackedRun(Record):
    """One run of a pack."""

    folder: str = Field(description="Name of its folder within `runs`.")
    method: str = Field(description="What is compared: the run's name within its suite, without its seed.")
    seed: int = Field(description="Its seed.")


class Manifest(Record):
    """Content of `manifest.json`."""

    schema_version: Literal[1] = Field(alias="schema", description="Version of this form.")
    collm: str = Field(description="Version of collm that packed the runs.")
    title: str = Field(description="Name of the suite, or of the runs.")
    weights: bool = Field(description="Whether the stages that trained are there.")
    notes: list[str] = Field(description="Sentences on what was left out, for every report of the pack.")
    runs: list[PackedRun] = Field(min_length=1, description="The runs in the order of the report.")
    files: dict[str, PackedFile] = Field(description="Every other file of the pack.")


@dataclass(frozen=True)
class OpenedRun:
    """A run of a pack whose files can be read.

    Attributes:
        method: What is compared.
        path: Folder of its files.
        place: Where it lies for the user: in the pack.
    """

    method: str
    path: Path
    place: Path


@dataclass(frozen=True)
class OpenedPack:
    """A pack whose files are those that were packed.

    Attributes:
        title: Name of the suite, or of the runs.
        runs: Its runs.
        notes: Sentences on what was left out.
    """

    title: str
    runs: tuple[OpenedRun, ...]
    notes: tuple[str, ...]


def is_packed(target: Path) -> bool:
    """Whether a place holds packed runs, zipped or unpacked; a file that is called .zip is taken for a zip."""
    if target.is_dir():
        return (target / MANIFEST).is_file()
    return target.is_file() and (target.suffix.lower() == ".zip" or zipfile.is_zipfile(target))


def open_pack(target: Path, scratch: Path) -> OpenedPack:
    """Checks the runs of a pack.

    Args:
        target: The zip, or the folder that it was unpacked to.
        scratch: Folder that a zip's runs are unpacked to.

    Raises:
        RunError: If it is damaged, incomplete, or not a pack.
    """
    if target.is_dir():
        return _open(_Folder(target), target / RUNS)
    into = scratch / str(len(list(scratch.iterdir())))
    try:
        with zipfile.ZipFile(target) as archive:
            return _open(_Zip(target, archive), into)
    # What zipfile raises for damaged, encrypted and unknown members.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise RunError(f"{target}: cannot be read as a zip ({error}); {AGAIN}") from error
    except OSError as error:
        # Of the zip, not of the folder that it is unpacked to.
        if error.errno == errno.ENOSPC or (error.filename is not None and os.fsdecode(error.filename) != str(target)):
            raise
        raise RunError(f"{target}: cannot be read ({error.strerror or error})") from error


class _Folder:
    """The files of an unpacked pack, where they lie."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def size(self, name: str) -> int | None:
        """Returns the bytes of a file, None where there is none."""
        path = self.path / name
        return path.stat().st_size if path.is_file() else None

    def open(self, name: str) -> IO[bytes]:
        """Opens a file for reading."""
        return (self.path / name).open("rb")

    def check_total(self, n_bytes: int) -> None:
        """Files that lie there already unpack to nothing."""

    def copies(self) -> bool:
        """Whether files are copied before they are read."""
        return False


class _Zip:
    """The files of a zip."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path, self._archive = path, archive
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in archive.infolist():
            if fault := _unsafe(member):
                raise RunError(f"{path}: '{member.filename}' {fault}; nothing of it was unpacked")
            if member.filename in self._members:
                raise RunError(f"{path}: holds '{member.filename}' twice; {AGAIN}")
            self._members[member.filename] = member

    def size(self, name: str) -> int | None:
        """Returns the bytes that a file unpacks to, None where there is none."""
        member = self._members.get(name)
        return None if member is None else member.file_size

    def open(self, name: str) -> IO[bytes]:
        """Opens a file for reading; no more than `size` bytes come from it."""
        return self._archive.open(self._members[name])

    def check_total(self, n_bytes: int) -> None:
        """Refuses to unpack what is out of all proportion to the zip.

        Raises:
            RunError: If it is.
        """
        zipped = self.path.stat().st_size
        if n_bytes > max(ALWAYS_ALLOWED_BYTES, LARGEST_RATIO * zipped):
            raise RunError(
                f"{self.path}: would unpack from {zipped:,} to {n_bytes:,} bytes, which no pack of runs does; nothing "
                "of it was unpacked"
            )

    def copies(self) -> bool:
        """Whether files are copied before they are read."""
        return True


def _unsafe(member: zipfile.ZipInfo) -> str:
    name = PurePosixPath(member.filename)
    if name.is_absolute() or ".." in name.parts or "\\" in member.filename or "\0" in member.orig_filename:
        return "leads out of the zip"
    if stat.S_ISLNK(member.external_attr >> 16):
        return "is a symbolic link"
    return ""


def _open(pack: _Folder | _Zip, into: Path) -> OpenedPack:
    manifest = _manifest(pack)
    names = {run.folder: list(_files_of(pack, manifest, run)) for run in manifest.runs}
    pack.check_total(sum(pack.size(name) or 0 for each in names.values() for name in each))
    for folder, files in names.items():
        for name in files:
            copy = into / folder / PurePosixPath(name).name if pack.copies() else None
            _check(pack, name, manifest.files[name], copy)
    place = pack.path / RUNS
    runs = tuple(OpenedRun(run.method, into / run.folder, place / run.folder) for run in manifest.runs)
    return OpenedPack(manifest.title, runs, tuple(manifest.notes))


def _manifest(pack: _Folder | _Zip) -> Manifest:
    size = pack.size(MANIFEST)
    if size is None:
        raise RunError(f"{pack.path}: has no {MANIFEST}, so it was not written by `collm runs pack`")
    try:
        if size > _LARGEST_MANIFEST_BYTES:
            raise ValueError(f"{size:,} bytes are too many")
        with pack.open(MANIFEST) as stream:
            content: Any = json.loads(stream.read())
        if isinstance(content, dict) and content.get("schema") not in (None, 1):
            raise ValueError(f"it has form {content['schema']!r} of a later version of collm; this one reads form 1")
        manifest = Manifest.model_validate(content)
    except (ValidationError, ValueError, RecursionError) as error:
        said = str(error.errors()[0]["msg"]) if isinstance(error, ValidationError) else str(error)
        raise RunError(f"{pack.path}: {MANIFEST} cannot be read: {said}") from error
    folders = [run.folder for run in manifest.runs]
    for folder in folders:
        if folder in ("", ".", "..") or PurePosixPath(folder).name != folder or "\\" in folder or "\0" in folder:
            raise RunError(f"{pack.path}: {MANIFEST} names the run folder '{folder}', which leads elsewhere")
        if folders.count(folder) > 1:
            raise RunError(f"{pack.path}: {MANIFEST} names the run folder '{folder}' twice")
    return manifest


def _files_of(pack: _Folder | _Zip, manifest: Manifest, run: PackedRun) -> Iterator[str]:
    for name in (*RUN_FILES, DONE):
        full = f"{RUNS}/{run.folder}/{name}"
        listed, size = manifest.files.get(full), pack.size(full)
        if listed is not None and size is None:
            raise RunError(f"{pack.path}: '{full}' is missing; {AGAIN}")
        if listed is None and (name in NEEDED or size is not None):
            raise RunError(f"{pack.path}: {MANIFEST} does not list '{full}', as it would of a finished run; {AGAIN}")
        if listed is not None:
            yield full


def _check(pack: _Folder | _Zip, name: str, listed: PackedFile, copy: Path | None) -> None:
    """Compares a file with the manifest and, on the way, copies it."""
    digest, size = hashlib.sha256(), 0
    sink: IO[bytes] | None = None
    try:
        if copy is not None:
            copy.parent.mkdir(parents=True, exist_ok=True)
            sink = copy.open("wb")
        with pack.open(name) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
                if sink is not None:
                    sink.write(chunk)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise RunError(f"{pack.path}: '{name}' is damaged ({error}); {AGAIN}") from error
    finally:
        if sink is not None:
            sink.close()
    if (size, digest.hexdigest()) != (listed.size, listed.sha256):
        raise RunError(f"{pack.path}: '{name}' is damaged: its contents are not those that were packed; {AGAIN}")
