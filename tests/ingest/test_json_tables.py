"""JSON files of one value: pandas' orients come back as pandas wrote them; lines stay lines; literals are not run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

from collm.errors import DataError
from collm.ingest.bad_rows import BadRows
from collm.ingest.json_lines import json_or_literal
from collm.ingest.json_tables import whole_records
from collm.ingest.read_rows import read_rows, sample_file
from collm.ingest.typed_rows import WantedColumns

ROWS = [{"user": n % 3, "item": f"i{n}", "stars": n / 2, "note": None if n == 2 else "x"} for n in range(9)]
FRAME = pd.DataFrame(ROWS)
FIELD_TYPES = {"user": pl.Int64(), "stars": pl.Float64()}


def records(path: Path, content: str) -> list[Any] | None:
    path.write_text(content, encoding="utf-8")
    return whole_records(path, parse=json_or_literal)


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("orient", ["columns", "records", "split", "index", "table"])
def test_what_pandas_writes(tmp_path: Path, orient: Any, indent: int | None) -> None:
    found = records(tmp_path / "a.json", FRAME.to_json(orient=orient, indent=indent))
    assert found is not None
    kept = [{name: row[name] for name in ("user", "item", "stars", "note")} for row in found]
    assert kept == ROWS


def test_named_rows_of_pandas(tmp_path: Path) -> None:
    named = FRAME.set_index("item")
    for orient in ("columns", "index"):
        found = records(tmp_path / "a.json", named.to_json(orient=orient))
        assert found is not None
        assert [row["stars"] for row in found] == [row["stars"] for row in ROWS]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(ROWS, indent=1),
        json.dumps({"ratings": ROWS}),
        json.dumps({name: [row[name] for row in ROWS] for name in ROWS[0]}),
        str(ROWS),
    ],
)
def test_other_tables(tmp_path: Path, content: str) -> None:
    assert records(tmp_path / "a.json", content) == ROWS


@pytest.mark.parametrize(
    "content",
    [
        "\n".join(json.dumps(row) for row in ROWS),
        json.dumps(ROWS[0]),
        json.dumps({"id": "1", "images": [{"url": "x"}], "also": []}),
        "{'user': 'U0', 'item': 'I1'}\n{'user': 'U0', 'item': 'I2'}",
        '{"user": "A1", "ove\n{"user": 1}',
        "nonsense",
    ],
)
def test_lines_stay_lines(tmp_path: Path, content: str) -> None:
    assert records(tmp_path / "a.json", content) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[[1, 2], [3, 4]]", "array of arrays, in which nothing names the columns; write one object per line"),
        ('[{"a": 1},\n{"a": 2}', "is one JSON value that cannot be read .*lines=True"),
        ('{"a": 1,\n"b": [1, 2]}', "holds one JSON object with a, b, which is not a table"),
        ('[{"a": NaN}]', "cannot be read"),
    ],
)
def test_what_is_no_table_is_explained(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        records(tmp_path / "a.json", content)


def test_large_values_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for indent in (None, 1):
        path.write_text(json.dumps(ROWS * 10, indent=indent))
        with pytest.raises(DataError, match="is one JSON value of more than 0 MB; write one object per line"):
            whole_records(path, longest=1000)


def test_rows_of_one_value_are_read_like_lines(tmp_path: Path) -> None:
    wanted = WantedColumns({name: (name,) for name in FIELD_TYPES}, FIELD_TYPES, ("user",), ids=("user",))
    rows = [*ROWS, {"user": [1], "stars": 1}, 7, {"stars": 2}]
    found = []
    for name, content in (("a.json", json.dumps(rows)), ("a.jsonl", "\n".join(json.dumps(row) for row in rows))):
        (tmp_path / name).write_text(content)
        bad = BadRows()
        frame = read_rows(tmp_path / name, wanted, bad=bad)
        found.append((frame.rows(), bad.frame().select("line", "reason").rows()))
    assert found[0] == found[1]
    assert len(found[0][0]) == 9
    assert found[0][1] == [(10, "user is not text or a number"), (11, "not a JSON object"), (12, "user is missing")]


def test_literals_are_read_without_running_them() -> None:
    assert json_or_literal("{'asin': '1', 'title': \"It's\"}") == {"asin": "1", "title": "It's"}
    assert json_or_literal(r"{u'a': u'\d', 'b': True, 'c': None}") == {"a": "\\d", "b": True, "c": None}
    with pytest.raises(ValueError, match=r"malformed|neither JSON"):
        json_or_literal("__import__('os').getcwd()")
    with pytest.raises(ValueError, match="neither JSON"):
        json_or_literal("{'asin'")
    with pytest.raises(ValueError, match="Expecting"):
        json_or_literal("{'a': '" + "x" * (1 << 20) + "'}")


def test_the_look_at_the_first_rows_survives_anything(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"user": 1, "title": "a\\ud800b", "n": 99999999999999999999, "deep": {"x": 1}}\n{"user": "2", "n": 1}\n'
    )
    rows = sample_file(path).rows
    assert rows.to_dict(as_series=False) == {
        "user": ["1", "2"],
        "title": ["a?b", None],
        "n": ["99999999999999999999", "1"],
    }


def test_one_number_that_is_too_long_does_not_make_text_of_the_others(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"t": t}) for t in (1, 2, 10**25, 3)))
    assert sample_file(path).rows["t"].to_list() == [1, 2, None, 3]
    path.write_text("\n".join(json.dumps({"t": t}) for t in (1, 10**25, 10**26)))
    assert sample_file(path).rows["t"].to_list() == ["1", str(10**25), str(10**26)]
