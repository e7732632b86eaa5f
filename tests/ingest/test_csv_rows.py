"""CSV files beside Python's csv module; every record that does not fit is a bad row with its line."""

from __future__ import annotations

import csv
import gzip
import io
import random
from pathlib import Path

import polars as pl
import pytest

from collm.errors import DataError
from collm.ingest.bad_rows import BadRows
from collm.ingest.csv_rows import CsvRows, read_csv_rows
from collm.ingest.typed_rows import WantedColumns

FIELDS = {"user": ("user", "uid"), "rating": ("stars",)}
DTYPES = {"user": pl.String(), "rating": pl.Float64()}


def read(
    path: Path, content: str | bytes, *, required: tuple[str, ...] = ("user", "rating"), chunk_bytes: int = 1 << 20
) -> tuple[list[tuple[object, ...]], list[tuple[int, str]]]:
    """Returns the rows and (line, reason) of the bad ones."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    bad = BadRows()
    frame = read_csv_rows(path, WantedColumns(FIELDS, DTYPES, required), bad=bad, chunk_bytes=chunk_bytes)
    assert frame.schema == {**DTYPES, "line": pl.Int64()}
    return frame.rows(), bad.frame().select("line", "reason").rows()


def test_columns_by_either_name_in_any_order(tmp_path: Path) -> None:
    rows, bad = read(tmp_path / "a.csv", "stars,note,uid\n4,x,u1\n\n5,y,u2\n")
    assert (rows, bad) == ([("u1", 4.0, 2), ("u2", 5.0, 4)], [])


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("chunk_bytes", [1, 40, 1 << 20])
def test_any_quoted_text_comes_back(tmp_path: Path, separator: str, chunk_bytes: int) -> None:
    generator = random.Random(chunk_bytes)
    pieces = ["a", "é", ",", ";", '"', "\n", "\r\n", " b", "|", "\t"]
    users = ["u" + "".join(generator.choice(pieces) for _ in range(generator.randrange(8))) for _ in range(60)]
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, lineterminator=generator.choice(["\n", "\r\n"]))
    writer.writerows([("user", "stars"), *((user, place) for place, user in enumerate(users))])
    content = gzip.compress(text.getvalue().encode())
    rows, bad = read(tmp_path / "a.csv.gz", content, chunk_bytes=chunk_bytes)
    assert bad == []
    # Line ends within a field are one kind: a file is read line by line.
    assert [row[0] for row in rows] == [user.replace("\r\n", "\n").strip() for user in users]
    assert [row[1] for row in rows] == list(range(60))
    lines = [2]
    for user in users[:-1]:
        lines.append(lines[-1] + 1 + user.count("\n"))
    assert [row[2] for row in rows] == lines


def test_what_does_not_fit_is_named_and_the_next_line_is_not_lost(tmp_path: Path) -> None:
    content = (
        "user,stars\n"
        "u1,4\n"
        "u2\n"  # too few
        "u3,4,5\n"  # too many
        '"u4,4\n'  # never closed
        "u5,four\n"
        ",3\n"
        "u6,\n"
        '"u7"x,4\n'
        '"u 8",2\n'
    )
    rows, bad = read(tmp_path / "a.csv", content)
    assert rows == [("u1", 4.0, 2), ("u 8", 2.0, 10)]
    assert sorted(bad) == [
        (3, "too few fields"),
        (4, "too many fields"),
        (5, "text after a closing quote"),
        (6, "rating is not a number"),
        (7, "user is missing"),
        (8, "rating is missing"),
        (9, "text after a closing quote"),
    ]


def test_a_quote_that_is_never_closed_costs_its_own_line(tmp_path: Path) -> None:
    rows, bad = read(tmp_path / "a.csv", 'user,stars\nu1,4\n"u2,4\nu3,5\nu4,1\n')
    assert rows == [("u1", 4.0, 2), ("u3", 5.0, 4), ("u4", 1.0, 5)]
    assert bad == [(3, "a quote is not closed")]


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    rows, bad = read(tmp_path / "a.csv", b"user,stars\nu1,4\nJos\xe9,4\nu3,5\n")
    assert rows == [("u1", 4.0, 2), ("u3", 5.0, 4)]
    assert bad == [(3, "not UTF-8 text")]
    with pytest.raises(DataError, match=r"b\.csv:1: the header line is not UTF-8 text; save the file as UTF-8"):
        read(tmp_path / "b.csv", b"us\xe9r,stars\n")


def test_a_missing_value_is_fine_where_none_is_required(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", "user,stars\nu1,\n", required=("user",)) == ([("u1", None, 2)], [])


def test_headers(tmp_path: Path) -> None:
    assert read(tmp_path / "only.csv", "user,stars\n") == ([], [])
    assert read(tmp_path / "bom.csv", "\ufeff user ; stars \nu;1\n") == ([("u", 1.0, 2)], [])
    (tmp_path / "q.csv").write_text('"a;b",c,d\n')
    assert CsvRows(tmp_path / "q.csv", bad=BadRows()).head.names == ("a;b", "c", "d")
    with pytest.raises(DataError, match="is empty; the first line must name the columns"):
        read(tmp_path / "empty.csv", "\n\n")
    with pytest.raises(DataError, match=r"column 'stars' \(rating\) is missing; the file has user, rating"):
        read(tmp_path / "other.csv", "user,rating\nu,1\n")
    with pytest.raises(DataError, match="2 columns are called 'user'; give them different names"):
        read(tmp_path / "twice.csv", "user,user,stars\nu,v,1\n")
    with pytest.raises(DataError, match="the header line cannot be read: a quote is not closed"):
        read(tmp_path / "quote.csv", '"user,stars\nu,1\n')


ROW = "{0},{0}@x,{1},Film {0}\n"


@pytest.mark.parametrize(("first", "last"), [(5, 30), (5, 6), (70, 90)])
def test_two_stray_quotes_do_not_swallow_the_rows_between(tmp_path: Path, first: int, last: int) -> None:
    lines = ["user,mail,stars,title\n", *(ROW.format(n, n % 5) for n in range(100))]
    lines[first] = lines[first].replace("Film", '"Film')
    lines[last] = lines[last].replace("Film", "Vinyl 12").replace("\n", '"\n')
    path = tmp_path / "a.csv"
    path.write_text("".join(lines))
    bad = BadRows()
    records = list(CsvRows(path, bad=bad))
    assert [record.fields[0] for record in records] == [str(n) for n in range(100)]
    assert [record.line for record in records] == list(range(2, 102))
    assert records[first - 1].fields[3].startswith('"Film')
    (note,) = bad.notes()
    assert note.startswith(f"a.csv: 1 line (line {first + 1}) whose quote closes only on a later line")


def test_a_text_of_several_lines_with_separators_is_one_field(tmp_path: Path) -> None:
    review = "soft, warm, and blue\nbut, to be fair, dear\n\nwould, not, buy"
    path = tmp_path / "a.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("user", "item", "stars", "text"), *((n, n, 4, review) for n in range(50))])
    bad = BadRows()
    assert [record.fields[3] for record in CsvRows(path, bad=bad)] == [review] * 50
    assert bad.notes() == ()


def test_backslashes_before_quotes(tmp_path: Path) -> None:
    content = '"isbn";"title"\n"1";"a \\"b\\" & c"\n"2";"ends \\""\n"3";"C:\\"\n"4";"say ""x"""\n'
    path = tmp_path / "a.csv"
    path.write_text(content)
    bad = BadRows()
    assert [record.fields[1] for record in CsvRows(path, bad=bad)] == ['a "b" & c', 'ends "', "C:\\", 'say "x"']
    assert len(bad) == 0


def test_nul_characters_are_bad_rows(tmp_path: Path) -> None:
    rows, bad = read(tmp_path / "a.csv", "user,stars\nu1,4\nu\0001,4\n")
    assert (rows, bad) == ([("u1", 4.0, 2)], [(3, "a NUL character")])


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("4,5", 4.5),
        ("-0,25", -0.25),
        ("1,6E+09", 1.6e9),
        ("4.5", 4.5),
        ("0,125", 0.125),
        ("1234,5", 1234.5),
        ("44087,625", 44087.625),
    ],
)
def test_decimal_commas(tmp_path: Path, text: str, number: float) -> None:
    assert read(tmp_path / "a.csv", f"user;stars\nu1;{text}\n") == ([("u1", number, 2)], [])


def test_a_comma_before_three_digits_is_asked_for(tmp_path: Path) -> None:
    rows, bad = read(tmp_path / "a.csv", "user;stars\nu1;1,234\nu2;1,2,3\n")
    assert rows == []
    assert sorted(bad) == [(2, "rating has a comma that may mark decimals or thousands"), (3, "rating is not a number")]


def test_ids_keep_their_blanks(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("user,stars\n a,1\n ,2\n")
    bad = BadRows()
    frame = read_csv_rows(path, WantedColumns(FIELDS, DTYPES, ("user",), ids=("user",)), bad=bad)
    assert frame["user"].to_list() == [" a"]
    assert bad.frame()["reason"].to_list() == ["user is missing"]


def test_quotes_in_tabbed_titles_are_text(tmp_path: Path) -> None:
    titles = ['"Great Performances" Cats', '"Heroes', "plain", 'say "hi"', '"whole"']
    path = tmp_path / "ml.item"
    path.write_text("item_id:token\ttitle:token_seq\n" + "".join(f"{n}\t{title}\n" for n, title in enumerate(titles)))
    bad = BadRows()
    assert [record.fields[1] for record in CsvRows(path, bad=bad)] == [*titles[:4], "whole"]
    assert bad.notes() == ("ml.item: 2 lines (line 2, 3) whose quotes do not fit, read with its quotes as text",)


@pytest.mark.parametrize("separator", [" ", ","])
def test_a_quote_that_is_never_closed_loses_no_later_line_whatever_the_separator(
    tmp_path: Path, separator: str
) -> None:
    lines = ["user stars", *(f"u{n} {n}" for n in range(20))]
    lines[10] = '"u9 9'
    path = tmp_path / "a.csv"
    path.write_text("\n".join(lines).replace(" ", separator) + "\n")
    bad = BadRows()
    assert [record.fields[0] for record in CsvRows(path, bad=bad)] == [f"u{n}" for n in range(20) if n != 9]
    assert bad.frame().select("line", "reason").rows() == [(11, "a quote is not closed")]
