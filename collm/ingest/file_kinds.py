"""What a file is by its first bytes, where that is not what its name says: pointers, web pages, half downloads.

Such files are common and their contents read as wrong columns or damaged rows; here they are named as what they are.
"""

from __future__ import annotations

import re
from pathlib import Path

from collm.errors import DataError

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


def check_kind(path: Path, *, parquet: bool) -> None:
    """Stops at a file that is plainly something else than its name says.

    Args:
        path: The file.
        parquet: Whether its name says parquet; else text, plain or gz.

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
