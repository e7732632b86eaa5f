"""Lines of text files beside Python's own splitting; what cannot be read is a bad row with its number."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from collm.errors import DataError
from collm.ingest import text_lines
from collm.ingest.bad_rows import BadRows
from collm.ingest.text_lines import LONGEST_LINE, TextLines


def lines_of(
    path: Path, content: bytes, **settings: int
) -> tuple[list[tuple[int, str]], list[tuple[int, str]], set[int]]:
    """Returns the lines, (line, reason) of the bad ones, and the numbers of lines that are not UTF-8."""
    path.write_bytes(content)
    bad = BadRows()
    reader = TextLines(path, bad=bad, **settings)
    found = list(reader)
    return found, bad.frame().select("line", "reason").rows(), reader.broken


@pytest.mark.parametrize("block", [1, 3, 7, 1 << 20])
def test_lines_are_pythons_own_whatever_the_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(text_lines, "_BLOCK", block)
    generator = random.Random(block)
    for number in range(40):
        text = "".join(
            generator.choice(["a", "é", "\n", "\r\n", "", " ", "漢"]) for _ in range(generator.randrange(30))
        )
        name = f"{number}.txt.gz" if number % 2 else f"{number}.txt"
        raw = text.encode()
        found, bad, broken = lines_of(tmp_path / name, gzip.compress(raw) if number % 2 else raw)
        expected = [line.removesuffix("\r") for line in text.split("\n")]
        if expected[-1] == "":
            expected.pop()
        assert found == list(enumerate(expected, start=1)), repr(text)
        assert (bad, broken) == ([], set())


def test_a_byte_order_mark_is_taken_off(tmp_path: Path) -> None:
    assert lines_of(tmp_path / "a.csv", b"\xef\xbb\xbfuser\n1")[0] == [(1, "user"), (2, "1")]


@pytest.mark.parametrize("block", [1, 3, 1 << 20])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_read_as_its_mark_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, encoding: str
) -> None:
    monkeypatch.setattr(text_lines, "_BLOCK", block)
    raw = "\ufeffüser;x\r\n漢\U0001f600\n\n1".encode(encoding)
    expected = [(1, "üser;x"), (2, "漢\U0001f600"), (3, ""), (4, "1")]
    assert lines_of(tmp_path / "a.csv", raw) == (expected, [], set())
    assert lines_of(tmp_path / "a.csv.gz", gzip.compress(raw)) == (expected, [], set())
    found, bad, _ = lines_of(tmp_path / "cut.csv", raw[:-1])
    assert (found[:3], bad) == (expected[:3], [(0, "file ends in the middle")])


def test_lines_that_are_not_utf8_are_read_in_a_named_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("é,漢\n".encode() + "é\n".encode("latin-1") + b"\x81\n")
    lines = TextLines(path, bad=BadRows(), encoding="cp1252")
    assert [text for _, text in lines] == ["é,漢", "é", "\udc81"]
    assert lines.broken == {3}  # cp1252 has no character there


def test_other_encodings_are_noted_line_by_line(tmp_path: Path) -> None:
    found, bad, broken = lines_of(tmp_path / "a.csv", "é\n".encode() + "é\n".encode("latin-1") + b"plain\n")
    assert [number for number, _ in found] == [1, 2, 3]
    assert (found[0][1], found[2][1], broken, bad) == ("é", "plain", {2}, [])


@pytest.mark.parametrize("block", [4, 1 << 20])
def test_a_line_that_is_too_long_is_one_bad_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(text_lines, "_BLOCK", block)
    found, bad, _ = lines_of(tmp_path / "a.csv", b"a\n" + b"x" * 50 + b"\nb\nc", longest=20)
    assert found == [(1, "a"), (3, "b"), (4, "c")]
    assert bad == [(2, "line is longer than 0 MB")]


def test_sixteen_megabytes_are_read_and_more_are_not(tmp_path: Path) -> None:
    found, bad, _ = lines_of(tmp_path / "a.csv", b"x" * LONGEST_LINE + b"\n" + b"y" * (LONGEST_LINE + 1) + b"\nend\n")
    assert [(number, len(text)) for number, text in found] == [(1, LONGEST_LINE), (3, 3)]
    assert bad == [(2, "line is longer than 16 MB")]


def test_a_file_that_breaks_off_gives_what_came_before(tmp_path: Path) -> None:
    generator = random.Random(0)
    lines = [str(generator.random()) for _ in range(5_000)]
    whole = gzip.compress("\n".join(lines).encode())
    found, bad, _ = lines_of(tmp_path / "cut.gz", whole[: len(whole) // 2])
    assert 1_000 < len(found) < 4_000
    assert [text for _, text in found] == lines[: len(found)]
    assert bad == [(0, "file ends in the middle")]
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 255
    found, bad, _ = lines_of(tmp_path / "bad.gz", bytes(damaged))
    assert bad[0][1] in ("gz data is damaged, what follows is lost", "file ends in the middle")
    assert len(found) < len(lines)


def test_the_real_truncated_file(shared_data: Path) -> None:
    path = shared_data / "amazon2014-digital-music" / "reviews_truncated.json.gz"
    if not path.is_file():
        pytest.skip("the truncated reviews are missing")
    bad = BadRows()
    assert all(text.startswith("{") for _, text in TextLines(path, bad=bad))
    assert bad.frame()["reason"].to_list() == ["file ends in the middle"]


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.csv: cannot be read \(No such file"):
        list(TextLines(tmp_path / "gone.csv", bad=BadRows()))
