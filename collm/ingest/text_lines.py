"""Lines of a text file, plain or gz, in order and in bounded memory. Knows nothing of what a line means.

What cannot be read is a bad row: a file that ends in the middle, damaged gz data, a line of more than 16 MB. A
byte-order mark is taken off; one of UTF-16 decides how the file is decoded. Lines that are not UTF-8 are read in
another encoding where one is named, else given out with their numbers noted.
"""

from __future__ import annotations

import codecs
import gzip
import itertools
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from collm.errors import DataError
from collm.ingest.bad_rows import BadRows

LONGEST_LINE = 16 << 20
_GZ_MAGIC = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff")
_BLOCK = 1 << 20
_SHOWN_BYTES = 2000
_KEPT_LINES = 100


class TextLines:
    """Iterates over (line number from 1, text without its line end).

    Attributes:
        broken: Numbers of lines given out so far that are not UTF-8; their bad bytes are lone surrogates in the text.
        not_utf8: The first of these lines, as bytes.
    """

    def __init__(self, path: Path, *, bad: BadRows, longest: int = LONGEST_LINE, encoding: str | None = None) -> None:
        """Names the file; it is opened when iteration begins."""
        self.path, self.bad, self.longest, self.encoding = path, bad, longest, encoding
        self.broken: set[int] = set()
        self.not_utf8: list[bytes] = []
        self._number = 0
        self._break = ""

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """Reads the file.

        Raises:
            DataError: If it cannot be opened or read.
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
            body = body.removeprefix(_BOM)
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
            yield self._number, self._decoded(raw).removesuffix("\r")

    def _decoded(self, raw: bytes) -> str:
        """Returns the text of a line; one in no known encoding is noted, its bad bytes are lone surrogates."""
        for encoding in filter(None, ("utf-8", self.encoding)):
            try:
                return raw.decode(encoding)
            except UnicodeDecodeError:
                continue
        self.broken.add(self._number)
        if len(self.not_utf8) < _KEPT_LINES:
            self.not_utf8.append(raw)
        return raw.decode("utf-8", "surrogateescape")

    def _blocks(self) -> Iterator[bytes]:
        """Gives the bytes as UTF-8, whether the file is UTF-8 or UTF-16."""
        blocks = self._raw_blocks()
        start = b""
        for block in blocks:
            start += block
            if len(start) >= len(_WIDE_BOMS[0]):
                break
        if not start.startswith(_WIDE_BOMS):
            yield from itertools.chain([start] if start else [], blocks)
            return
        decoder = codecs.getincrementaldecoder("utf-16")("surrogatepass")
        for block in itertools.chain([start], blocks):
            yield decoder.decode(block).encode("utf-8", "surrogatepass")
        try:
            yield decoder.decode(b"", final=True).encode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            self._break = self._break or "file ends in the middle"

    def _raw_blocks(self) -> Iterator[bytes]:
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


def likely_encoding(lines: Sequence[bytes]) -> str:
    """Returns cp1252 where it can decode these lines, else latin-1, which can decode all."""
    try:
        b"\n".join(lines).decode("cp1252")
    except UnicodeDecodeError:
        return "latin-1"
    return "cp1252"
