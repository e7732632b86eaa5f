"""Named files inside a folder or a zip as published: finding, hashing and reading them. Knows no format."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, cast

from collm.errors import DataError
from collm.files import file_digest, member_digest


class SourceFiles:
    """The wanted files of a dataset, wherever in the folder or zip (at most one level down) they lie."""

    def __init__(self, path: Path | None, names: Sequence[str], *, owner: str, optional: Sequence[str] = ()) -> None:
        """Locates the files.

        Raises:
            DataError: If the path is missing or is not a zip, or a file is missing or found twice.
        """
        wanted = ", ".join(names)
        if path is None:
            raise DataError(
                f"dataset.path: '{owner}' needs {wanted}: give the folder, or the zip as published, in dataset.path"
            )
        if not path.exists():
            raise DataError(f"dataset.path: '{path}' does not exist; '{owner}' needs the folder or zip with {wanted}")
        self.path, self.owner = path, owner
        if path.is_dir():
            available = [p.relative_to(path).as_posix() for p in (*path.glob("*"), *path.glob("*/*")) if p.is_file()]
        else:
            available = self._zip_members()
        present = {place.rpartition("/")[2] for place in available}
        wanted_names = [*names, *(name for name in optional if name in present)]
        self._places = {name: self._place(name, available) for name in wanted_names}

    def has(self, name: str) -> bool:
        """Whether a file, wanted or optional, was found."""
        return name in self._places

    def open(self, name: str) -> BinaryIO:
        """Opens one of the wanted files for reading bytes."""
        place = self._places[name]
        if self.path.is_dir():
            return (self.path / place).open("rb")
        # The member keeps the archive's file open for as long as it is read.
        return cast(BinaryIO, zipfile.ZipFile(self.path).open(place))

    def read(self, name: str) -> bytes:
        """Returns the whole content of one of the wanted files.

        Raises:
            DataError: If it cannot be read, e.g. the zip is damaged.
        """
        try:
            with self.open(name) as stream:
                return stream.read()
        except (OSError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
            raise DataError(f"{self.path}: '{name}' cannot be read ({error}); get the file again") from error

    def content_hash(self) -> str:
        """Returns a hex digest of names and bytes, equal for a folder and the zip of the same files.

        Raises:
            DataError: If a file cannot be read.
        """
        digest = hashlib.sha256()
        for name in sorted(self._places):
            digest.update(f"{name}\0".encode())
            place = self._places[name]
            content = file_digest(self.path / place) if self.path.is_dir() else member_digest(self.path, place)
            digest.update(bytes.fromhex(content))
        return digest.hexdigest()

    def _zip_members(self) -> list[str]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                members = [info.filename for info in archive.infolist() if not info.is_dir()]
        except (OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{self.path}: neither a folder nor a readable zip ({error})") from error
        return members

    def _place(self, name: str, available: list[str]) -> str:
        matches = [
            place for place in available if place.rpartition("/")[2] == name and not place.startswith("__MACOSX")
        ]
        top = [place for place in matches if place == name]
        if len(top or matches) == 1:
            return (top or matches)[0]
        if not matches:
            seen = ", ".join(sorted({place.rpartition("/")[2] for place in available})[:8]) or "nothing"
            raise DataError(f"{self.path}: '{self.owner}' needs the file '{name}', found {seen}")
        raise DataError(
            f"{self.path}: found {len(matches)} files named '{name}' ({', '.join(sorted(matches)[:4])}); point "
            "dataset.path at one folder"
        )
