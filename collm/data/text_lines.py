"""Lines of a text file, plain or gz, in order and in bounded memory. Knows nothing of what a line means.

What cannot be read is a bad row: a file that ends in the middle, damaged gz data, a line of more than 16 MB. A
byte-order mark is taken off. Lines that are not UTF-8 are given out, with their numbers noted.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from collm.data.bad_rows import BadRows
from collm.errors import DataError

LONGEST_LINE = 16 << 20
_GZ_MAGIC = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff")
_BLOCK = 1 << 20
_SHOWN_BYTES = 2000


class TextLines:
    """Iterates over (line number from 1, text without its line end).

    Attributes:
        broken: Numbers of lines given out so far that are not UTF-8; their bad bytes are lone surrogates in the text.
    """

    def __init__(self, path: Path, *, bad: BadRows, longest: int = LONGEST_LINE) -> None:
        """Names the file; it is opened when iteration begins.

        Args:
            path: Text file; gz is known by its first bytes.
            bad: Takes what cannot be read.
            longest: Bytes that a line may have.
        """
        self.path, self.bad, self.longest = path, bad, longest
        self.broken: set[int] = set()
        self._number = 0
        self._break = ""

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """Reads the file.

        Raises:
            DataError: If it cannot be opened or read, or is UTF-16.
        """
        pieces: list[bytes] = []  # of the line whose end has not come yet
        skipping = False  # inside a line that is too long
        for block in self._blocks():
            whole, newline, tail = block.rpartition(b"\n")
            if not newline:
                pieces.append(block)
                if not skipping and sum(map(len, pieces)) > self.longest:
                    self._report_long(self._number + 1, b"".join(pieces)[:_SHOWN_BYTES])
                    skipping = True
                if skipping:
                    pieces.clear()
                continue
            if skipping:
                skipping = False
                self._number += 1
                _, ended_before, whole = whole.partition(b"\n")
                if not ended_before:
                    pieces = [tail]
                    continue
            yield from self._lines(b"".join([*pieces, whole]))
            pieces = [tail]
        last = b"".join(pieces)
        if self._break:
            self.bad.add(self.path.name, 0, self._break, last[:_SHOWN_BYTES].decode("utf-8", "replace"))
        elif last:
            yield from self._lines(last)

    def _report_long(self, number: int, start: bytes) -> None:
        reason = f"line is longer than {self.longest >> 20} MB"
        self.bad.add(self.path.name, number, reason, start.decode("utf-8", "replace"))

    def _lines(self, body: bytes) -> Iterator[tuple[int, str]]:
        """Splits whole lines; a body is decoded at once where it can be, line by line where it cannot."""
        if self._number == 0:
            body = self._without_mark(body)
        try:
            texts = body.decode("utf-8").split("\n")
        except UnicodeDecodeError:
            texts = None
        if texts is None or len(body) > self.longest:
            yield from self._one_by_one(body)
            return
        for text in texts:
            self._number += 1
            yield self._number, text.removesuffix("\r")

    def _one_by_one(self, body: bytes) -> Iterator[tuple[int, str]]:
        for raw in body.split(b"\n"):
            self._number += 1
            if len(raw) > self.longest:
                self._report_long(self._number, raw[:_SHOWN_BYTES])
                continue
            text = raw.decode("utf-8", "surrogateescape").removesuffix("\r")
            if not text.isascii() and any("\udc80" <= character <= "\udcff" for character in text):
                self.broken.add(self._number)
            yield self._number, text

    def _without_mark(self, body: bytes) -> bytes:
        if body.startswith(_WIDE_BOMS):
            raise DataError(f"{self.path}: is UTF-16 text (its first bytes say so); save it as UTF-8")
        return body.removeprefix(_BOM)

    def _blocks(self) -> Iterator[bytes]:
        """Gives the decompressed bytes, up to where the file breaks off."""
        try:
            with self.path.open("rb") as probe:
                is_gz = probe.read(len(_GZ_MAGIC)) == _GZ_MAGIC
            with gzip.open(self.path, "rb") if is_gz else self.path.open("rb") as stream:
                # read1: what was decompressed before the break is given out instead of being lost with it.
                while block := stream.read1(_BLOCK):
                    yield block
        except EOFError:
            self._break = "file ends in the middle"
        except (zlib.error, gzip.BadGzipFile):
            self._break = "gz data is damaged, what follows is lost"
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error.strerror or error})") from error
