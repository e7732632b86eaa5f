"""Layouts of tables in text form: each writer's habit, and what is not a table of rows at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from collm.errors import DataError
from collm.ingest.csv_head import CsvHead, read_head

ROWS = "9{0}37{0}5{0}1600009271\n29{0}31{0}4{0}1600095676"
NAMES = ("user", "item", "rating", "timestamp")


def head_of(text: str) -> CsvHead:
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    return read_head(lines, Path("a.csv"))


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "::", " ", "   "])
def test_separators(separator: str) -> None:
    head = head_of(separator.join(NAMES) + "\n" + ROWS.format(separator))
    assert (head.separator, head.names, head.line) == (separator[:1] if separator == "   " else separator, NAMES, 1)


@pytest.mark.parametrize(
    ("text", "separator", "names", "line", "said"),
    [
        ("sep=;\nuser;item\n1;2", ";", ("user", "item"), 2, "sep=; of spreadsheets"),
        ('"sep=,"\nuser,a;b;c\n1,2', ",", ("user", "a;b;c"), 2, "sep=,"),
        ("user,item\n1,a,b\n2,c,d", ",", ("row_name", "user", "item"), 1, "as R writes"),
        ('"user" "item"\n"1" 7 8\n"2" 9 8', " ", ("row_name", "user", "item"), 1, "as R writes"),
        ("user,item\n1,a,\n2,c,", ",", ("user", "item", ""), 1, "ends in a separator"),
        ("user_id:token\tmovie_title:token_seq\n1\tA: B", "\t", ("user_id", "movie_title"), 1, "RecBole"),
        ("1::2::3::4\n5::6::7::8", "::", NAMES, 0, "MovieLens"),
        ("1::Up, up (1995)::A|B\n2::X::C", "::", ("item", "title", "genres"), 0, "MovieLens"),
        ("1\t2\t3\t881250949\n5\t6\t7\t881250949", "\t", NAMES, 0, "MovieLens"),
        ("A1X,B00Y,5.0,1400000000\nA2,B1,3.0,1", ",", tuple(f"column_{n}" for n in range(1, 5)), 0, "no header line"),
        ("1 2 1\n3 4 0", " ", ("column_1", "column_2", "column_3"), 0, "no header line"),
    ],
)
def test_habits_of_writers(text: str, separator: str, names: tuple[str, ...], line: int, said: str) -> None:
    head = head_of(text)
    assert (head.separator, head.names, head.line) == (separator, names, line)
    assert said in "; ".join(head.remarks)


@pytest.mark.parametrize(
    "text",
    [
        "user,item\n1,a,b\n2,c",  # only some rows have one field more
        "user,item\n1,a,b\n1,c,d",  # what comes first is not the name of a row
        "user,item\n1,2",
        'user,item\n"1,\n2",3',
    ],
)
def test_plain_headers_stay(text: str) -> None:
    assert head_of(text) == CsvHead(",", ("user", "item"), 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 48 2 16\n1 28 5\n2 51 27 6", "is an adjacency list as of LightGCN .*positives only"),
        ("0 48\n1 28 5\n2 51 27 6", "adjacency list"),
        ('{"user": 1, "item": 2}', "holds JSON, not a table in text form"),
        ("sep=;", "holds nothing but the line 'sep=;'"),
        ("u\0s\0e\0r\0", r"a\.csv:1: the header line holds NUL characters \(UTF-16 without a byte-order mark"),
        ("user,item\r1,2", "single carriage return"),
        ('"user,item\n1,2', "a quote is not closed"),
    ],
)
def test_what_is_no_table_of_rows(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        head_of(text)
