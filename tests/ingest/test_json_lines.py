"""Reading JSON lines: both ways of decoding agree, nothing wrong passes or vanishes in silence, memory is bounded."""

from __future__ import annotations

import gzip
import json
import random
import tracemalloc
from pathlib import Path

import polars as pl
import pytest

from collm.errors import DataError
from collm.ingest.bad_rows import BadRows
from collm.ingest.json_lines import parse_json, read_json_lines, read_records
from collm.ingest.typed_rows import WantedColumns

FIELDS = {"user": ("reviewerID", "user_id"), "rating": ("overall", "rating"), "time": ("unixReviewTime",)}
DTYPES = {"user": pl.String(), "rating": pl.Float64(), "time": pl.Int64()}
SOUND = b'{"reviewerID": "A1", "overall": 5.0, "unixReviewTime": 7}'
ROW = ("A1", 5.0, 7)


def read(path: Path, content: bytes, **settings: object) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """Returns the rows and (line, reason) of the bad ones."""
    path.write_bytes(content)
    bad = BadRows()
    required = ("user", "rating", "time")
    frame = read_json_lines(path, WantedColumns(FIELDS, DTYPES, required), bad=bad, **settings)  # type: ignore[arg-type]
    assert frame.schema == {**DTYPES, "line": pl.Int64()}
    return frame.rows(), bad.frame().select("line", "reason").rows()


def test_columns_lines_and_either_name(tmp_path: Path) -> None:
    other = b'{"user_id": "A2", "rating": 4, "unixReviewTime": 8, "text": "long"}'
    rows, bad = read(tmp_path / "r.jsonl", SOUND + b"\n\n" + other + b"\r\n")
    assert (rows, bad) == ([(*ROW, 1), ("A2", 4.0, 8, 3)], [])


def test_gz_byte_order_mark_and_no_last_newline(tmp_path: Path) -> None:
    rows, bad = read(tmp_path / "r.json.gz", gzip.compress(b"\xef\xbb\xbf" + SOUND + b"\n" + SOUND))
    assert (rows, bad) == ([(*ROW, 1), (*ROW, 2)], [])


BAD = {
    b"{": "not JSON",
    b'{"reviewerID": "A1", "overall": NaN, "unixReviewTime": 7}': "not JSON",
    b"[1]": "not a JSON object",
    b"null": "not a JSON object",
    b'{"reviewerID": 3, "overall": 5.0, "unixReviewTime": 7}': "user is not text",
    b'{"reviewerID": ["A"], "overall": 5.0, "unixReviewTime": 7}': "user is not text",
    b'{"reviewerID": {"a": 1}, "overall": 5.0, "unixReviewTime": 7}': "user is not text",
    b'{"reviewerID": true, "overall": 5.0, "unixReviewTime": 7}': "user is not text",
    b'{"reviewerID": "\\ud800abc", "overall": 5.0, "unixReviewTime": 7}': "user is not text",
    b'{"reviewerID": "A1", "overall": "5.0", "unixReviewTime": 7}': "rating is not a number",
    b'{"reviewerID": "A1", "overall": true, "unixReviewTime": 7}': "rating is not a number",
    b'{"reviewerID": "A1", "overall": 1e999, "unixReviewTime": 7}': "rating is not a number",
    b'{"reviewerID": "A1", "overall": 5.0, "unixReviewTime": 7.5}': "time is not a whole number",
    b'{"reviewerID": "A1", "overall": 5.0, "unixReviewTime": "7"}': "time is not a whole number",
    b'{"reviewerID": "A1", "overall": 5.0, "unixReviewTime": 9223372036854775808}': "time is not a whole number",
    b'{"reviewerID": "A1", "overall": 5.0}': "time is missing",
    b'{"reviewerID": "A1", "overall": null, "unixReviewTime": 7}': "rating is missing",
    b'{"reviewerID": " ", "overall": 5.0, "unixReviewTime": 7}': "user is missing",
    b'{"reviewerID": "A\xff", "overall": 5.0, "unixReviewTime": 7}': "not UTF-8 text",
    b'{"reviewerID": "A1", "overall": 5.0, "unixReviewTime": 7, "x": "\xff"}': "not UTF-8 text",
    b"[" * 100_000: "not JSON",
}


@pytest.mark.parametrize(("line", "reason"), BAD.items(), ids=[line[:70].decode("latin-1") for line in BAD])
def test_a_bad_line_is_named_and_the_others_are_read(tmp_path: Path, line: bytes, reason: str) -> None:
    rows, bad = read(tmp_path / "r.json", SOUND + b"\n" + line + b"\n" + SOUND + b"\n")
    assert (rows, bad) == ([(*ROW, 1), (*ROW, 3)], [(2, reason)])


SOUND_BUT_STRANGE = {
    '{"reviewerID": "12", "overall": 5.0, "unixReviewTime": 7}': "12",
    '{"reviewerID"  :  "12", "overall": 5.0, "unixReviewTime": 7}': "12",
    '{"reviewerID": "[a] \\"b\\"", "overall": 5.0, "unixReviewTime": 7}': '[a] "b"',
    '{"reviewerID": "{}", "overall": 5.0, "unixReviewTime": 7}': "{}",
    '{"reviewerID": "true", "overall": 5.0, "unixReviewTime": 7}': "true",
    '{"reviewerID": "null", "overall": 5.0, "unixReviewTime": 7}': "null",
    '{"reviewerID": "\\u0000", "overall": 5.0, "unixReviewTime": 7}': "\0",
    '{"reviewerID": "\\ud83d\\ude00é", "overall": 5.0, "unixReviewTime": 7}': "\U0001f600é",
    '{"reviewerID": "A1", "reviewerID": "A2", "overall": 5.0, "unixReviewTime": 7}': "A1",
    '{"user_id": "B", "reviewerID": "A", "overall": 5.0, "unixReviewTime": 7}': "A",
    '{"user_id": "B", "reviewerID": null, "overall": 5.0, "unixReviewTime": 7}': "B",
    '{"reviewerID": "A", "overall": 5, "unixReviewTime": 7}': "A",
}


@pytest.mark.parametrize(("line", "user"), SOUND_BUT_STRANGE.items())
def test_both_ways_of_decoding_agree(tmp_path: Path, line: str, user: str) -> None:
    """Lines are decoded strictly, records of one JSON value are looked at one by one."""
    rows, bad = read(tmp_path / "r.json", line.encode() + b"\n{\n")
    assert (rows, bad) == ([(user, 5.0, 7, 1)], [(2, "not JSON")])
    records = read_records(tmp_path / "r.json", [parse_json(line)], WantedColumns(FIELDS, DTYPES), bad=BadRows())
    assert records.rows() == rows


VALUES = [
    '"x"',
    '"12"',
    "12",
    "1.5",
    "-3",
    "1e5",
    '"[1]"',
    "[1]",
    "{}",
    '{"a":"12"}',
    "null",
    "true",
    '"true"',
    '"\\u0041"',
    '"\\u0000"',
    '"\\ud83d\\ude00"',
    '"\\ud800x"',
    '""',
    '"\\"reviewerID\\":\\"12\\""',
    "0",
    "-0",
    "1e400",
    "9223372036854775807",
    "9223372036854775808",
    "1.0",
    "0.1",
    "NaN",
    '"\\/"',
    "01",
    "tru",
]


def test_made_up_lines_are_read_alike_both_ways(tmp_path: Path) -> None:
    draw = random.Random(0)
    path = tmp_path / "r.json"
    n_read = 0
    for _ in range(600):
        keys = draw.choices(["reviewerID", "user_id", "overall", "unixReviewTime", "other"], k=draw.randrange(1, 5))
        pairs = (f'"{key}"{draw.choice([":", ": ", " :"])}{draw.choice(VALUES)}' for key in keys)
        line = "{" + draw.choice([",", ", "]).join(pairs) + "}"
        path.write_text(line + "\n", encoding="utf-8")
        try:
            records = [parse_json(line)]
        except ValueError:
            assert read(path, line.encode()) == ([], [(1, "not JSON")]), line
            continue
        for ids in ((), ("user",)):
            wanted = WantedColumns(FIELDS, DTYPES, ids=ids)
            bad_lines, bad_records = BadRows(), BadRows()
            lines = read_json_lines(path, wanted, bad=bad_lines)
            one_by_one = read_records(path, records, wanted, bad=bad_records)
            assert lines.equals(one_by_one), line
            assert bad_lines.counts() == bad_records.counts(), line
            n_read += lines.height
    assert n_read > 200


def test_one_key_wanted_as_two_types(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text('{"a": 3}\n{"a": "x"}\n')
    wanted = WantedColumns({"id": ("a",), "number": ("a",)}, {"id": pl.String(), "number": pl.Int64()}, ids=("id",))
    bad = BadRows()
    assert read_json_lines(path, wanted, bad=bad).rows() == [("3", 3, 1)]
    assert bad.frame()["reason"].to_list() == ["number is not a whole number"]


def test_a_whole_float_is_an_integer(tmp_path: Path) -> None:
    line = b'{"reviewerID": "A1", "overall": 5.0, "unixReviewTime": 7.0}'
    assert read(tmp_path / "r.json", line) == ([(*ROW, 1)], [])


def test_a_number_of_the_same_text_elsewhere_in_the_line_is_no_excuse(tmp_path: Path) -> None:
    nested = b'{"reviewerID": 12, "reviewText": "\\"reviewerID\\": \\"12\\"", "overall": 5.0, "unixReviewTime": 7}'
    assert read(tmp_path / "r.json", nested + b"\n" + SOUND) == ([(*ROW, 2)], [(1, "user is not text")])


@pytest.mark.parametrize("chunk_bytes", [1, 100, 200, 1 << 20])
def test_pieces_of_any_size_give_the_same(tmp_path: Path, chunk_bytes: int) -> None:
    content = b"\n".join([SOUND, b"{", SOUND, b"", SOUND])
    rows, bad = read(tmp_path / "r.json", content, chunk_bytes=chunk_bytes)
    assert (rows, bad) == ([(*ROW, 1), (*ROW, 3), (*ROW, 5)], [(2, "not JSON")])


def test_rows_that_are_not_wanted_are_let_go(tmp_path: Path) -> None:
    rows, bad = read(tmp_path / "r.json", b"\n".join([SOUND, SOUND.replace(b"7", b"9")]), where=pl.col("time") > 7)
    assert (rows, bad) == ([("A1", 5.0, 9, 2)], [])


def test_a_gz_file_cut_off_keeps_the_rows_before(tmp_path: Path) -> None:
    lines = b"".join(
        json.dumps({"reviewerID": f"A{n}", "overall": 5, "unixReviewTime": n * n}).encode() + b"\n" for n in range(5000)
    )
    whole = gzip.compress(lines)
    rows, bad = read(tmp_path / "r.json.gz", whole[: len(whole) // 2])
    assert 1000 < len(rows) < 4000
    assert [row[0] for row in rows] == [f"A{n}" for n in range(len(rows))]
    assert bad == [(0, "file ends in the middle")]


def test_a_huge_line_is_passed_over_without_being_held(tmp_path: Path) -> None:
    path = tmp_path / "r.json.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(SOUND + b'\n{"reviewerID": "')
        for _ in range(100):
            stream.write(b"x" * (1 << 20))
        stream.write(b'"}\n' + SOUND + b"\n")
    bad = BadRows()
    tracemalloc.start()
    try:
        frame = read_json_lines(path, WantedColumns(FIELDS, DTYPES), bad=bad)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert frame.rows() == [(*ROW, 1), (*ROW, 3)]
    assert bad.frame().select("line", "reason").rows() == [(2, "line is longer than 16 MB")]
    assert peak < 80 << 20


def test_a_key_that_no_line_has_is_an_error(tmp_path: Path) -> None:
    line = b'{"who": "A1", "overall": 5.0, "unixReviewTime": 7}\n'
    with pytest.raises(DataError, match=r"no line has 'reviewerID' or 'user_id' \(user\); the first has who, overall"):
        read(tmp_path / "r.json", line + line)


def test_an_empty_file_gives_no_rows(tmp_path: Path) -> None:
    assert read(tmp_path / "r.json", b"") == ([], [])


def test_another_way_to_parse_lines(tmp_path: Path) -> None:
    def either(text: str) -> object:
        return parse_json(text.replace("'", '"'))

    rows, bad = read(tmp_path / "r.json", SOUND.replace(b'"', b"'") + b"\n" + SOUND, parse=either)
    assert (rows, bad) == ([(*ROW, 1), (*ROW, 2)], [])


def test_the_real_file_that_is_cut_off(shared_data: Path) -> None:
    path = shared_data / "amazon2014-digital-music" / "reviews_truncated.json.gz"
    bad = BadRows()
    frame = read_json_lines(path, WantedColumns(FIELDS, DTYPES, tuple(FIELDS)), bad=bad)
    assert frame["line"].to_list() == list(range(1, frame.height + 1))
    assert frame.height > 5000
    assert bad.frame().select("file", "line", "reason").rows() == [(path.name, 0, "file ends in the middle")]
