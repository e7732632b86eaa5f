"""The files of a table: their format by name, the parts in a folder, and what a file is by its first bytes.

Pointers, web pages, archives and half downloads are common, and their contents read as wrong columns or damaged rows;
here they are named as what they are. Folders of part files are read as Spark, Dask and polars write them.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from collm.component import is_pattern
from collm.errors import DataError

Format = Literal["csv", "json", "parquet"]
ENDINGS: Mapping[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".dat": "csv",
    ".data": "csv",
    ".inter": "csv",
    ".item": "csv",
    ".user": "csv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_SHOWN = 5
PARQUET_MAGIC = b"PAR1"
_HEAD_BYTES = 4096
_LFS = b"version https://git-lfs"
_WEB_PAGE = re.compile(rb"\s*(<!doctype\s+html|<html|<head|<\?xml|<error>)", re.IGNORECASE)
_UNPACK = "unpack it first (readable as they are: plain text and .gz)"
# Pattern of the first bytes, what such a file is, and what to do.
_OTHERS: tuple[tuple[bytes, str, str], ...] = (
    (b"ARROW1", "an Arrow (Feather) file", "write it as parquet: polars.read_ipc(...).write_parquet(...)"),
    (b"SQLite format 3\0", "an SQLite database", "export its table as CSV or parquet"),
    (b"\x93NUMPY", "a NumPy array", "write its rows as CSV or parquet, with named columns"),
    (b"\x89HDF", "an HDF5 file", "write its table as CSV or parquet"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "save its sheet as CSV (UTF-8)"),
    (b"\xfd7zXZ", "compressed with xz", _UNPACK),
    (rb"BZh[1-9]1AY&SY", "compressed with bzip2", _UNPACK),
    (rb"\x28\xb5\x2f\xfd", "compressed with zstandard", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!", "a rar archive", _UNPACK),
    (b"%PDF", "a PDF document", "get the data file itself"),
    (rb"Obj\x01", "an Avro file", "write it as parquet"),
)
_ZIP, _ZIP_END, _ZIP_END_BYTES = b"PK\x03\x04", b"PK\x05\x06", 66_000


@dataclass(frozen=True)
class Part:
    """One file of a table.

    Attributes:
        path: The file.
        keys: Column -> value of all its rows, from folders named `column=value`; None = missing.
    """

    path: Path
    keys: Mapping[str, str | None]


def file_format(path: Path) -> Format:
    """Returns the format of a file's ending.

    Raises:
        DataError: If the ending is unknown; lists the known ones.
    """
    name = path.name.lower()
    plain = name.removesuffix(".gz")
    for ending, found in ENDINGS.items():
        if plain.endswith(ending) and not (found == "parquet" and name.endswith(".gz")):
            return found
    raise DataError(f"{path}: unknown ending; readable are {', '.join(ENDINGS)} (text files also with .gz)")


def table_format(path: Path) -> Format:
    """Returns the format of a file, or of the parts in a folder.

    Raises:
        DataError: If there is nothing to read.
    """
    return file_format(parts_of(path)[0].path)


def parts_of(path: Path) -> list[Part]:
    """Returns the files of a table: the file itself, the parts in a folder, or the files that fit a pattern.

    Names that begin with `_` or `.` are marks of the writer (`_SUCCESS`, checksums) and are passed over.

    Raises:
        DataError: If there is nothing, the folder holds no parts, or a format is unknown or not that of the others.
    """
    if path.is_file():
        return [Part(path, {})]
    root = root_of(path)
    if root != path:
        fitting = [Path(name) for name in glob.glob(str(path), recursive=True)]
        found = {file for each in fitting for file in ([each] if each.is_file() else each.rglob("*"))}
    elif path.is_dir():
        found = set(path.rglob("*"))
    else:
        raise DataError(f"{path}: no such file")
    files = [file for file in found if file.is_file() and not is_mark(file.relative_to(root).as_posix())]
    if not files:
        raise DataError(f"{path}: {'fits no file' if root != path else 'is a folder that holds no files to read'}")
    check_formats(path, files)
    return [
        Part(file, _keys(file.relative_to(root)))
        for file in sorted(files, key=lambda file: _numbered(str(file.relative_to(root))))
    ]


def root_of(path: Path) -> Path:
    """Returns the folder above the first part of a pattern that is one; of any other path itself."""
    if not is_pattern(path):
        return path
    first = next(place for place, part in enumerate(path.parts) if any(character in part for character in "*?["))
    return Path(*path.parts[:first])


def check_formats(path: Path | str, files: Iterable[Path]) -> None:
    """Checks that the parts of a table have one known format.

    Raises:
        DataError: If a format is unknown, or not that of the others.
    """
    files = list(files)
    formats = {file_format(file) for file in files}
    if len(formats) > 1:
        names = ", ".join(sorted(file.name for file in files)[:_SHOWN])
        raise DataError(
            f"{path}: holds files of several formats ({', '.join(sorted(formats))}: {names}); the parts of "
            "one table have one format: name the one file, or move the others"
        )


def check_kind(path: Path, *, parquet: bool) -> None:
    """Stops at a file whose first bytes are not those of its ending.

    Raises:
        DataError: If it is empty, a Git LFS pointer, a web page, an archive, another format, or a half download.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
            stream.seek(max(0, size - _ZIP_END_BYTES))
            tail = stream.read()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    if fault := _fault(head, tail, parquet=parquet):
        raise DataError(f"{path}: {fault}")


def _fault(head: bytes, tail: bytes, *, parquet: bool) -> str:
    if not head:
        return "is empty (0 bytes); get or write the file again"
    if head.startswith(_LFS):
        found = re.search(rb"^size (\d+)", head, re.MULTILINE)
        of = f" of a file of {int(found.group(1)):,} bytes" if found else ""
        return f"is a Git LFS pointer{of}, not the data itself: run `git lfs pull` in its repository"
    if _WEB_PAGE.match(head):
        return "is a web page (HTML or XML), as a download that failed leaves it; get the file again"
    if head.startswith(_ZIP):
        return _zip_fault(tail)
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "is a Python pickle, which is not loaded since it can run code; write it as parquet or CSV"
    for magic, what, advice in _OTHERS:
        if re.match(magic, head, re.DOTALL):
            return f"is {what}; {advice}"
    return _parquet_fault(head, tail, parquet=parquet)


def _zip_fault(tail: bytes) -> str:
    if _ZIP_END not in tail:
        return "is a zip archive that ends in the middle, as a half download does; get the file again and unpack it"
    return "is a zip archive (an .xlsx workbook is one, too); unpack it, or save the sheet as CSV"


def _parquet_fault(head: bytes, tail: bytes, *, parquet: bool) -> str:
    is_parquet = head.startswith(PARQUET_MAGIC)
    if is_parquet and not parquet:
        return "is a parquet file; give it the ending .parquet"
    if not parquet:
        return ""
    if not is_parquet:
        text = head.removeprefix(b"\xef\xbb\xbf")[:40].decode("utf-8", "replace")
        return f"cannot be read as parquet: its first bytes are {text!r}, those of a parquet file are 'PAR1'"
    if not tail.endswith(PARQUET_MAGIC) or len(tail) < 3 * len(PARQUET_MAGIC):
        return "cannot be read as parquet: it ends in the middle, as a half download does; get the file again"
    return ""


def is_mark(name: str) -> bool:
    """Whether a name relative to the folder of a table is a mark of its writer, and no part."""
    return any(part.startswith(("_", ".")) and "=" not in part for part in name.split("/"))


def _keys(path: Path) -> dict[str, str | None]:
    pairs = [part.partition("=") for part in path.parent.parts if "=" in part]
    return {name: None if value == _NO_VALUE else unquote(value) for name, _, value in pairs}


def _numbered(text: str) -> list[tuple[int, str]]:
    """Sorts `part.10` after `part.9`: the order of the rows may be the history."""
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in re.split(r"(\d+)", text)]
