"""Ids as text: one spelling for one id, an error where digits are lost or two spellings are one number."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from collm.errors import DataError
from collm.ingest.ids import MISSING_WORDS, id_fault, id_text, id_texts, one_spelling

FILE = Path("a.csv")


def spelt(*ids: str | None) -> list[str | None]:
    column = pl.Series("who", ids, dtype=pl.String)
    lines = pl.int_range(2, len(column) + 2, dtype=pl.Int64, eager=True)
    return one_spelling(column, lines, name="who", path=FILE).to_list()


def typed(values: pl.Series) -> list[str | None]:
    lines = pl.int_range(1, len(values) + 1, dtype=pl.Int64, eager=True)
    return id_texts(values, lines, name="who", path=Path("a.parquet")).to_list()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["37.0", "38.0", None], ["37", "38", None]),
        (["37,0", "38"], ["37", "38"]),
        (["007", "7", "0007.0"], ["007", "7", "0007"]),
        (["1.1", "1.10", "2.0"], ["1.1", "1.10", "2.0"]),  # versions
        ([" 7", "8 "], ["7", "8"]),
        (["\ufeff7", "\ufeff x", "8"], ["7", "x", "8"]),  # files with byte-order marks, one after another
        (["1e+05", "99999"], ["100000", "99999"]),
        (["1.23456E+5", "1.2345678E7"], ["123456", "12345678"]),
        (["1.234567890E9"], ["1234567890"]),
        (["1.5e+0"], ["1.5e+0"]),
        (["1.234567E7", "1.2E10"], ["12345670", "12000000000"]),  # Java and Spark write all digits
        (["1e5", "4E12", "12e3"], ["1e5", "4E12", "12e3"]),  # pieces of hashes
        (["-3.0", "+4.0"], ["-3", "+4"]),
        (["9" * 5000], ["9" * 5000]),
        (["90000000000000001"], ["90000000000000001"]),
        (["nan.0", "a.0", "1.0.0", "1,000"], ["nan.0", "a.0", "1.0.0", "1,000"]),
        (["9007199254740991.0"], ["9007199254740991"]),
    ],
)
def test_spellings(given: list[str | None], expected: list[str | None]) -> None:
    assert spelt(*given) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["1", "1.23457E+11"], r"a\.csv:3: 'who' is 1\.23457E\+11: scientific notation that shows 6 of its 12 digits"),
        (["1.234568e+08"], "shows 7 of its 9 digits"),
        (["1e+06"], "shows 1 of its 7 digits"),
        (["9e+15", "1"], "scientific notation that shows 1 of its 16 digits"),
        (["9.0000000000000016e+16"], r"below 2\^53"),
        (["90000000000000016.0"], r"a\.csv:2: 'who' is 90000000000000016\.0: a float, .* 2\^53"),
        (["9007199254740992.0"], r"2\^53"),
        (["1" * 5000 + ".0"], r"2\^53"),
        (["37", "a", "37.0"], r"'37' \(line 2\) and '37\.0' \(line 4\): one id in two spellings, or two ids\?"),
        (["37.00", "37.0"], r"'37\.00' \(line 2\) and '37\.0' \(line 3\)"),
        (["a ", "a"], r"'a ' \(line 2\) and 'a' \(line 3\)"),
        (["100000", "1e+05"], r"'100000' \(line 2\) and '1e\+05' \(line 3\)"),
    ],
)
def test_what_may_be_two_ids_or_one_is_an_error(given: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        spelt(*given)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pl.Series([37, None, -1], dtype=pl.Int8), ["37", None, "-1"]),
        (pl.Series([2**63, 2**64 - 1], dtype=pl.UInt64), ["9223372036854775808", "18446744073709551615"]),
        (pl.Series([37.0, None, float("nan"), -0.0]), ["37", None, None, "0"]),
        (pl.Series([1.5, 2.0]), ["1.5", "2.0"]),
        (pl.Series([2.0**53 - 1]), ["9007199254740991"]),
        (pl.Series([2.0**24 - 1], dtype=pl.Float32), ["16777215"]),
        (pl.Series([Decimal("37.00"), Decimal("10.50"), Decimal("100.00")]), ["37", "10.5", "100"]),
        (pl.Series([b"ab", b"\xc3\xa9", None]), ["ab", "é", None]),
        (pl.Series(["b", "a", None], dtype=pl.Categorical), ["b", "a", None]),
        (pl.Series(["b"], dtype=pl.Enum(["a", "b"])), ["b"]),
    ],
)
def test_typed_columns(values: pl.Series, expected: list[str | None]) -> None:
    assert typed(values) == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pl.Series([1.0, 2.0**53]), r"a\.parquet:2: 'who' is 9007199254740992\.0: a float, .* below 2\^53"),
        (pl.Series([float("inf")]), r"2\^53"),
        (pl.Series([2.0**24], dtype=pl.Float32), r"below 2\^24 = 16,777,216"),
        (pl.Series([b"\xff"]), r"a\.parquet:1: column 'who' holds bytes that are not UTF-8"),
        (pl.Series([True]), "holds Boolean; ids are text or whole numbers"),
    ],
)
def test_typed_columns_that_hold_no_ids(values: pl.Series, message: str) -> None:
    with pytest.raises(DataError, match=message):
        typed(values)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", "a"),
        (7, "7"),
        (10**30, str(10**30)),
        (7.0, "7"),
        (7.5, "7.5"),
        (True, None),
        ([1], None),
        (float("inf"), None),
    ],
)
def test_values_of_json(value: Any, expected: str | None) -> None:
    assert id_text(value, name="user", place="a.jsonl:3") == expected


def test_a_float_of_json_beyond_its_digits() -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:3: 'user' is 9e\+16: a float"):
        id_text(9.0e16, name="user", place="a.jsonl:3")


@pytest.mark.parametrize("word", [*MISSING_WORDS, "a\0b", "\x07"])
def test_words_for_missing_values_are_no_ids(word: str) -> None:
    frame = pl.DataFrame({"user": [word, "sound", "nancy", "a\tb"]})
    reasons = frame.select(id_fault("user").alias("reason"))["reason"].to_list()
    assert reasons[1:] == [None, None, None]
    assert ("missing value" if word in MISSING_WORDS else "control character") in reasons[0]
