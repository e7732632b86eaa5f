"""Where the files of a spec lie: paths, patterns, and addresses, of which copies are made when they are read."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import polars as pl

from collm.component import BuildContext, is_pattern
from collm.errors import DataError
from collm.fetching.address_copies import AddressCopy, address_copy, has_copy
from collm.fetching.addresses import WEB, RemotePart, UnreachableError, first_bytes, opened, protocol_of, remote_parts
from collm.ingest.read_rows import sample_file
from collm.ingest.table_files import check_formats, file_format, is_mark

# Enough for many rows; the columns of a table appear in the first line, those of JSON in the first objects.
_SAMPLED_BYTES = 1 << 18
_GZIP = 31  # window bits of zlib that expect the header of gzip


class Places:
    """The files of a spec by their roles.

    Attributes:
        given: Role -> path or address, as the spec has it.
    """

    def __init__(self, given: Mapping[str, Path | str], context: BuildContext) -> None:
        """Takes the places; nothing is looked at yet."""
        self.given = dict(given)
        self._context = context
        self._copies: dict[str, AddressCopy] = {}

    def files(self) -> dict[str, Path]:
        """Returns role -> path on this machine; what has an address is copied the first time.

        Raises:
            DataError: If there is nothing at a place, or it cannot be copied.
        """
        return {role: self._local(role, place) for role, place in self.given.items()}

    def notes(self) -> tuple[str, ...]:
        """Returns a sentence on size and digest of each address that was copied."""
        return tuple(f"{role} from {copy.said()}" for role, copy in self._copies.items())

    def columns(self, role: str, *, whole_lines: bool = False) -> list[str] | None:
        """Returns the names of a file's columns from its beginning, without copying it.

        Args:
            role: Role of the file.
            whole_lines: Whether it is not a table: only whether it is there is looked at then.

        Returns:
            The names; None where they are not known without reading the whole file, or the server cannot be asked now
            and there is a copy.

        Raises:
            DataError: If there is nothing at the place, or it cannot be read.
        """
        place = self.given[role]
        if isinstance(place, Path):
            path = self._local(role, place)
            return None if whole_lines else list(sample_file(path).rows.columns)
        try:
            parts = [part for part in remote_parts(place) if not is_mark(part.name)]
        except UnreachableError:
            if has_copy(place, self._context):
                return None
            raise
        if not parts:
            raise DataError(f"dataset.{role}: {place}: there are no files that fit")
        check_formats(place, [Path(part.name) for part in parts])
        with self.named():
            return None if whole_lines else _remote_columns(parts[0])

    @contextmanager
    def named(self) -> Iterator[None]:
        """Puts addresses in place of the copies' paths in errors."""
        try:
            yield
        except DataError as error:
            text = str(error)
            for copy in self._copies.values():
                text = text.replace(str(copy.path), copy.address)
            if type(error) is DataError and text != str(error):
                raise DataError(text) from error
            raise

    def _local(self, role: str, place: Path | str) -> Path:
        if isinstance(place, str):
            if role not in self._copies:
                self._copies[role] = address_copy(place, self._context, wanted=lambda name: not is_mark(name))
            return self._copies[role].path
        if not place.exists() and not is_pattern(place):
            raise DataError(f"dataset.{role}: '{place}': no such file; a relative path starts at the spec's folder")
        return place


def _remote_columns(part: RemotePart) -> list[str] | None:
    """Returns the columns of a file from its first bytes, or from the footer of a parquet file in a store."""
    found = file_format(Path(part.name))
    if found == "parquet":
        if protocol_of(part.location) in WEB:
            return None
        with opened(part) as stream:
            try:
                return [str(name) for name in pl.read_parquet_schema(stream)]
            except (OSError, pl.exceptions.PolarsError) as error:
                raise DataError(f"{part.location}: cannot be read as parquet ({str(error).splitlines()[0]})") from error
    if found == "json" and not PurePosixPath(part.name).name.lower().removesuffix(".gz").endswith(("jsonl", "ndjson")):
        return None
    content = first_bytes(part, _SAMPLED_BYTES)
    if content.startswith(b"\x1f\x8b"):
        try:
            content = zlib.decompressobj(_GZIP).decompress(content)
        except zlib.error as error:
            raise DataError(f"{part.location}: its gz data is damaged ({error})") from error
    if part.size is None or len(content) < part.size:
        content = content[: content.rfind(b"\n") + 1] or content
    with tempfile.TemporaryDirectory(prefix="collm-look-") as folder:
        path = Path(folder) / PurePosixPath(part.name).name
        path.write_bytes(content)
        try:
            return list(sample_file(path).rows.columns)
        except DataError as error:
            raise DataError(str(error).replace(str(path), part.location)) from error
