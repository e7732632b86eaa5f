"""Tables in files: equal rows whatever the format, samples, types, and what a guess rests on."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from collm.errors import DataError
from collm.ingest.bad_rows import BadRows
from collm.ingest.read_rows import read_rows, sample_file
from collm.ingest.table_files import file_format
from collm.ingest.typed_rows import WantedColumns, typed_rows
from collm.scaffold.guess_columns import guess_columns

FIELDS = {"user": ("who",), "rating": ("stars",)}
DTYPES = {"user": pl.String(), "rating": pl.Float64()}
ROWS = pl.DataFrame({"who": ["u1", "u2", None, "u4"], "stars": [4.0, None, 1.0, 2.5], "note": ["x", "y", "z", ""]})


def write(path: Path) -> Path:
    if path.suffix == ".parquet":
        ROWS.write_parquet(path)
    elif ".jsonl" in path.name:
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS.iter_rows(named=True)))
    else:
        ROWS.write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet"])
def test_formats_agree(tmp_path: Path, name: str) -> None:
    bad = BadRows()
    path = write(tmp_path / name)
    rows = read_rows(path, WantedColumns(FIELDS, DTYPES, ("user", "rating")), bad=bad)
    assert rows.drop("line").rows() == [("u1", 4.0), ("u4", 2.5)]
    assert bad.frame()["reason"].to_list() == ["rating is missing", "user is missing"]
    assert (bad.frame()["line"] - rows["line"][0]).to_list() == [1, 2]
    sample = sample_file(path)
    assert sample.rows.columns == ["who", "stars", "note"]
    assert sample.rows.height == 4
    assert sample.bad == ""


def test_endings() -> None:
    assert [file_format(Path(name)) for name in ("a.CSV.gz", "b.json.gz", "c.pq", "d.txt")] == [
        *("csv", "json", "parquet", "csv")
    ]
    for name in ("a.xlsx", "b.parquet.gz", "c"):
        with pytest.raises(DataError, match=r"unknown ending; readable are \.csv, \.tsv"):
            file_format(Path(name))


def test_parquet_says_what_it_has(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet")
    wanted, bad = WantedColumns(FIELDS, DTYPES, ("user",)), BadRows()
    with pytest.raises(DataError, match=r"column 'stern' \(rating\) is missing; the file has who, stars, note"):
        read_rows(path, WantedColumns({**FIELDS, "rating": ("stern",)}, DTYPES, ("user",)), bad=bad)
    pl.DataFrame({"who": ["u"], "stars": [[1.0]]}).write_parquet(path)
    with pytest.raises(DataError, match=r"column 'stars' holds List\(Float64\); rating must be a plain value"):
        read_rows(path, wanted, bad=bad)
    path.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataError, match=r"a\.parquet: cannot be read as parquet"):
        read_rows(path, wanted, bad=bad)


def test_samples_pass_over_and_say_so(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a": 1, "deep": {"x": 1}}\n\n{"a": 2.5, "b": "x"}\nnonsense\n[1]\n'))
    sample = sample_file(path)
    assert sample.rows.to_dict(as_series=False) == {"a": [1.0, 2.5], "b": [None, "x"]}
    assert sample.bad == "not a JSON object: 2"
    (tmp_path / "b.csv").write_text("a,b\n1,2\n3\n")
    assert sample_file(tmp_path / "b.csv").bad == "too few fields: 1"
    (tmp_path / "c.jsonl").write_text("[1]\n")
    with pytest.raises(DataError, match="holds no JSON objects, one per line"):
        sample_file(tmp_path / "c.jsonl")
    with pytest.raises(DataError, match=r"d\.csv: no such file"):
        sample_file(tmp_path / "d.csv")


def test_types_and_blanks() -> None:
    raw = pl.DataFrame({"id": [" 7 ", "7.5", "", "x"], "line": [2, 3, 4, 5]}, schema_overrides={"line": pl.Int64})
    bad = BadRows()
    wanted = WantedColumns({"id": ("id",)}, {"id": pl.Int64()}, ("id",))
    found = typed_rows(raw, wanted, file="f", bad=bad, text_of=lambda n: f"row {n}")
    assert found.rows() == [(7, 2)]
    assert bad.frame().rows() == [
        ("f", 3, "id is not a whole number", "row 1"),
        ("f", 4, "id is missing", "row 2"),
        ("f", 5, "id is not a whole number", "row 3"),
    ]


RATED = {
    "userId": ["a", "b", "a"],
    "movieId": ["1", "2", "3"],
    "rating": ["5", "3.5", "1"],
    "timestamp": ["1500000000", "1500000001", "1500000002"],
}


def test_guesses_of_usual_files() -> None:
    items = pl.DataFrame(
        {"movieId": ["1", "2", "3"], "title": ["A", "B", "C"], "genres": ["x", "y", "long text of all"]}
    )
    guess = guess_columns(pl.DataFrame(RATED), items)
    assert {role: found.column for role, found in guess.roles.items()} == {
        "user": "userId",
        "item": "movieId",
        "rating": "rating",
        "timestamp": "timestamp",
        "title": "title",
    }
    assert guess.positive_above == 3
    assert guess.unused == ()


def test_guesses_from_content() -> None:
    frame = pl.DataFrame(
        {
            "reviewerID": ["a", "b"],
            "asin": ["B1", "B2"],
            "overall": ["3", "10"],
            "when": ["2020-01-01", "2020-01-02"],
            "part": ["train", "test"],
            "text": ["x", "y"],
        }
    )
    items = pl.DataFrame({"code": ["B1", "B2", "B3"], "what it is called": ["Long name", "Other name", "Third"]})
    guess = guess_columns(frame, items)
    found = {role: each.column for role, each in guess.roles.items()}
    assert found["timestamp"] == "when"
    assert found["split"] == "part"
    assert found["items_key"] == "code"
    assert found["title"] == "what it is called"
    assert "100% of the item ids" in guess.roles["items_key"].why
    assert guess.unused == ("text",)
    assert guess.positive_above == 6


@pytest.mark.parametrize(
    ("ratings", "above"),
    [(["1", "5"], 3), (["0.5", "9"], 6), (["10", "90"], 60), (["0", "1", "0.5"], 0), (["4", "5"], 4.5)],
)
def test_thresholds(ratings: list[str], above: float) -> None:
    frame = pl.DataFrame({"user": ["u"] * len(ratings), "item": ["i"] * len(ratings), "rating": ratings})
    assert guess_columns(frame, None).positive_above == above


@pytest.mark.parametrize(
    ("name", "values", "role"), [("ts", ["100", "101"], "timestamp"), ("Fold", ["1", "2"], "split")]
)
def test_a_name_that_its_values_do_not_keep_is_told(name: str, values: list[str], role: str) -> None:
    frame = pl.DataFrame({"user": ["a", "b"], "item": ["1", "2"], "rating": ["5", "1"], name: values})
    guess = guess_columns(frame, None)
    assert role not in guess.roles
    assert guess.unused == (name,)
    (doubt,) = guess.doubts.values()
    assert doubt.startswith(f"'{name}' is named like a {role}")
    assert f"--column {role}={name}" in doubt
    if role == "timestamp":  # a run could not read it either
        with pytest.raises(
            DataError, match=r"column 'ts' is named as the times and is not a column of times.*`relative`"
        ):
            guess_columns(frame, None, given={role: name})
    named = guess_columns(frame, None, given={role: name}, times="relative")
    assert named.roles[role].column == name
    assert named.doubts == {}


def test_a_ready_label_counts_where_there_is_no_rating() -> None:
    frame = pl.DataFrame({"uid": ["a", "b"], "iid": ["1", "2"], "click": ["1", "0"]})
    guess = guess_columns(frame, None)
    assert guess.roles["label"].column == "click"
    assert guess.positive_above is None
    both = guess_columns(frame.with_columns(stars=pl.Series(["5", "2"])), None)
    assert "label" not in both.roles
    named = guess_columns(frame.with_columns(stars=pl.Series(["5", "2"])), None, given={"label": "click"})
    assert named.roles["label"].why == "named by you"


def test_no_guess_without_support() -> None:
    with pytest.raises(DataError, match=r"like user or item or rating; the file has a, b\. Name it: --column user"):
        guess_columns(pl.DataFrame({"a": ["1"], "b": ["2"]}), None)
    with pytest.raises(DataError, match="no column looks like rating"):
        guess_columns(pl.DataFrame({"user": ["1"], "item": ["2"], "rating": ["good"]}), None)
    with pytest.raises(DataError, match="no column of the items file holds the item ids"):
        guess_columns(pl.DataFrame(RATED), pl.DataFrame({"id": ["x"], "name": ["y"]}))
    with pytest.raises(DataError, match="no column of the items file looks like title"):
        guess_columns(pl.DataFrame(RATED), pl.DataFrame({"movieId": ["1"], "year": [1999]}))


def test_links_are_no_titles() -> None:
    items = pl.DataFrame(
        {"column_1": ["1", "2"], "column_2": ["Up", "Heat"], "column_3": ["http://x.org/Up", "www.heat"]}
    )
    frame = pl.DataFrame(RATED).with_columns(movieId=pl.Series(["1", "2", "1"]))
    assert guess_columns(frame, items).roles["title"].column == "column_2"


def test_a_parquet_file_without_rows_is_called_so(tmp_path: Path) -> None:
    ROWS.clear().write_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="holds no rows; its columns are who, stars, note"):
        sample_file(tmp_path / "a.parquet")


def test_bytes_in_parquet_are_text(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"who": [b"a", b"\xc3\xa9"], "stars": [b"4", b"\xff"]}).write_parquet(path)
    assert sample_file(path).rows.rows() == [("a", "4"), ("é", "\ufffd")]
    bad = BadRows()
    rows = read_rows(path, WantedColumns(FIELDS, DTYPES, ("user", "rating"), ids=("user",)), bad=bad)
    assert rows.drop("line").rows() == [("a", 4.0)]
    assert bad.frame()["reason"].to_list() == ["rating is not a number"]
