"""Folders of part files, as Spark, Dask and polars write them -> the parts in order, with what their folders say."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from collm.errors import DataError

_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_SHOWN = 5


@dataclass(frozen=True)
class Part:
    """One file of a table.

    Attributes:
        path: The file.
        keys: Column -> value of all its rows, from folders named `column=value`; None = missing.
    """

    path: Path
    keys: Mapping[str, str | None]


def parts_of(path: Path, format_of: Callable[[Path], str]) -> list[Part]:
    """Returns the files of a table: the file itself, or the parts in a folder.

    Names that begin with `_` or `.` are marks of the writer (`_SUCCESS`, checksums) and are passed over.

    Args:
        path: File or folder.
        format_of: Returns the format that a file's name says; raises `DataError` where it is unknown.

    Raises:
        DataError: If there is nothing, the folder holds no parts, or parts of several formats.
    """
    if path.is_file():
        return [Part(path, {})]
    if not path.is_dir():
        raise DataError(f"{path}: no such file")
    files = [file for file in path.rglob("*") if file.is_file() and not _is_mark(file.relative_to(path))]
    if not files:
        raise DataError(f"{path}: is a folder that holds no files to read")
    formats = {format_of(file) for file in files}
    if len(formats) > 1:
        names = ", ".join(sorted(file.name for file in files)[:_SHOWN])
        raise DataError(
            f"{path}: is a folder of files of several formats ({', '.join(sorted(formats))}: {names}); the parts of "
            "one table have one format: name the one file, or move the others"
        )
    return [
        Part(file, _keys(file.relative_to(path)))
        for file in sorted(files, key=lambda file: _numbered(str(file.relative_to(path))))
    ]


def _is_mark(path: Path) -> bool:
    return any(part.startswith(("_", ".")) and "=" not in part for part in path.parts)


def _keys(path: Path) -> dict[str, str | None]:
    pairs = [part.partition("=") for part in path.parent.parts if "=" in part]
    return {name: None if value == _NO_VALUE else unquote(value) for name, _, value in pairs}


def _numbered(text: str) -> list[tuple[int, str]]:
    """Sorts `part.10` after `part.9`: the order of the rows may be the history."""
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in re.split(r"(\d+)", text)]
