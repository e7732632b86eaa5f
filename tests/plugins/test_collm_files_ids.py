"""The kind as a whole: whatever ids a file holds, as many users and items come out as went in, or a line is named."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collm.errors import DataError
from collm.ingest.bad_rows import BadRows
from collm_files.rows import read_columns

NASTY = (
    *("7", "7.0", "07", "007", "7 ", " 7", "1e5", "1e+05", "100000", "1E5", "1.0e5", "3.7e1", "37", "37.0", "37,0"),
    *(
        "nan",
        "NaN",
        "NULL",
        "None",
        "NA",
        "null",
        "<NA>",
        "\\N",
        "",
        " ",
        "-1",
        "0",
        "00",
        "0.0",
        "-0.0",
        "1.10",
        "1.1",
    ),
    *("90000000000000001", "90000000000000002", "9e16", "9.0000000000000001e+16", "1.23457E+11", "123457000000"),
    *(
        'a"b',
        "a,b",
        "a;b",
        "a\tb",
        "a\nb",
        "'",
        "é",
        "e\u0301",
        "漢",
        "\u00a0a",
        "a\u200b",
        "true",
        "x" * 400,
        "9" * 400,
    ),
)
TEXTS = st.one_of(st.sampled_from(NASTY), st.text(alphabet="019.eE+- aé", max_size=5))
INTS = st.one_of(st.integers(0, 20), st.integers(-(2**63), 2**63 - 1))
FLOATS = st.one_of(st.integers(0, 20).map(float), st.floats(allow_nan=True, allow_infinity=False), st.floats(0, 9))
SCIENTIFIC = st.builds(
    lambda n, form: format(float(n), form), st.integers(0, 10**12), st.sampled_from(["e", "g", ".2e", ".0f"])
)
COLUMNS = st.one_of(
    *(st.lists(st.one_of(each, st.none()), min_size=1, max_size=12) for each in (TEXTS, INTS, FLOATS, SCIENTIFIC))
)
SCALE = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(path: Path, users: Sequence[Any], items: Sequence[Any]) -> None:
    if path.suffix == ".parquet":
        pl.DataFrame({"who": pl.Series(users, strict=False), "what": pl.Series(items, strict=False)}).write_parquet(
            path
        )
    elif path.suffix == ".jsonl":
        pairs = [
            {"who": None if who != who else who, "what": None if what != what else what}
            for who, what in zip(users, items, strict=True)
        ]
        path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("who", "what"), *zip(users, items, strict=True)])


def n_in(values: Sequence[Any]) -> int:
    return len({value for value in values if value is not None and value == value})


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
@SCALE
@given(users=COLUMNS, items=COLUMNS)
def test_as_many_come_out_as_went_in_or_a_line_is_named(
    tmp_path: Path, name: str, users: list[Any], items: list[Any]
) -> None:
    n = min(len(users), len(items))
    users, items = users[:n], items[:n]
    path = tmp_path / name
    write(path, users, items)
    bad = BadRows(allowed=0)
    try:
        frame = read_columns(path, {"user": "who", "item": "what"}, required=("user", "item"), bad=bad)
    except DataError as error:
        assert name in str(error)
        return
    if len(bad):
        assert all(line >= 1 for line in bad.frame()["line"])
        with pytest.raises(DataError, match=rf"{re.escape(name)} line \d+: "):
            bad.check()
        return
    assert frame.height == n
    assert (frame["user"].n_unique(), frame["item"].n_unique()) == (n_in(users), n_in(items))


@SCALE
@given(ids=st.lists(st.integers(0, 10**9), min_size=1, max_size=20, unique=True))
def test_one_person_in_all_formats_and_number_types(tmp_path: Path, ids: list[int]) -> None:
    """Interactions may hold 37.0 where the items file holds 37: both read as the same id."""
    wanted = [str(each) for each in ids]
    forms: dict[str, Sequence[Any]] = {
        "int.csv": ids,
        "float.csv": [float(each) for each in ids],
        "text.jsonl": wanted,
        "float.jsonl": [float(each) for each in ids],
        "int.jsonl": ids,
        "int.parquet": ids,
        "float.parquet": [float(each) for each in ids],
        "text.parquet": wanted,
    }
    for name, column in forms.items():
        write(tmp_path / name, column, column)
        frame = read_columns(tmp_path / name, {"user": "who", "item": "what"}, required=("user",), bad=BadRows())
        assert frame["user"].to_list() == frame["item"].to_list() == wanted, name
