"""Files of pairs: any format that data files have, times in the dataset's own count, every fault with its line."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collm.data.pairs import IdPlaces, asked_seconds
from collm.data.prepared import PreparedData
from collm.errors import DataError
from collm.ingest.times import FIRST, LAST, UNITS
from collm.trained.model import TrainedModel
from collm.trained.pairs_file import Pairs, read_pairs, title_notes

NOON = 1_600_000_000


class Dataset:
    """As much of a prepared dataset as times need."""

    def __init__(self, times: Sequence[int]) -> None:
        self._times = times

    def interactions(self) -> pl.DataFrame:
        return pl.DataFrame({"timestamp": self._times})


DATED = cast(PreparedData, Dataset([NOON - 10**6, NOON]))
COUNTED = cast(PreparedData, Dataset([1, 2, 800]))
FRAME = pl.DataFrame({"user": [9, 10], "item": ["37", "x y"], "time": [NOON, NOON + 1], "title": ["", "New"]})


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def pairs_in(path: Path) -> tuple[list[str], list[str], list[int] | None, dict[str, str]]:
    found: Pairs = read_pairs(path)
    return found.users, found.items, found.seconds(DATED), dict(found.titles)


def test_all_formats_give_the_same(tmp_path: Path) -> None:
    csv = FRAME.write_csv()
    FRAME.write_parquet(tmp_path / "p[1].parquet")
    paths = [
        written(tmp_path, "p.csv", csv),
        written(tmp_path, "s.csv", FRAME.write_csv(separator=";")),
        written(tmp_path, "p.tsv", FRAME.write_csv(separator="\t")),
        written(tmp_path, "p.csv.gz", gzip.compress(csv.encode())),
        written(tmp_path, "u.csv", csv.encode("utf-16")),
        written(tmp_path, "p.jsonl", FRAME.write_ndjson()),
        written(tmp_path, "p.json", FRAME.write_json()),
        tmp_path / "p[1].parquet",
    ]
    for path in paths:
        assert pairs_in(path) == (["9", "10"], ["37", "x y"], [NOON, NOON + 1], {"x y": "New"}), path.name


@given(
    seconds=st.lists(st.integers(FIRST, LAST), min_size=1, max_size=8),
    units=st.lists(st.sampled_from(sorted(UNITS)), min_size=8, max_size=8),
    as_text=st.booleans(),
)
def test_a_time_is_the_same_second_in_any_unit(seconds: list[int], units: list[str], as_text: bool) -> None:
    times = pl.Series([second * UNITS[unit] for second, unit in zip(seconds, units, strict=False)])
    assert asked_seconds(times.cast(pl.String) if as_text else times, DATED).to_list() == seconds


def test_dates_are_times(tmp_path: Path) -> None:
    path = written(tmp_path, "p.csv", "user,item,time\n1,2,2020-09-13\n1,2,2020-09-13T12:26:40+02:00\n")
    midnight = round(datetime(2020, 9, 13, tzinfo=UTC).timestamp())
    assert read_pairs(path).seconds(DATED) == [midnight, NOON - 7200]


def test_a_dataset_without_dates_counts_by_itself(tmp_path: Path) -> None:
    path = written(tmp_path, "p.csv", "user,item,time\n1,2,17\n1,2,900\n")
    assert read_pairs(path).seconds(COUNTED) == [17, 900]
    with pytest.raises(DataError, match=r"line 2: time must be whole seconds .* between 1990 and 2100 \(got '17'\)"):
        read_pairs(path).seconds(DATED)
    dated = written(tmp_path, "d.csv", "user,item,time\n1,2,2020-09-13\n")
    with pytest.raises(
        DataError, match=r"line 2: time must be a whole number of 64 bits.*it has no dates.*'2020-09-13'"
    ):
        read_pairs(dated).seconds(COUNTED)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("user,item,time\n9,37,99999999999999999999999\n", r"line 2: time must be .*\(got '99999999999999999999999'\)"),
        ("user,item\n9,37\n,5\n", r"line 3: user is empty \(got nothing\)"),
        ("user,item\n9,37\nnan,5\n", "line 3: user is 'nan', a word for a missing value"),
        ("user,item\n9,37\n5\n", r"line 3: too few fields \(5\)"),
        ("user,item\n9,37\n9\0,37\n", "line 3: a NUL character"),
        ("user,item\n90000000000000016.0,37\n", r"p\.csv:2: 'user' is 90000000000000016\.0: a float"),
        ("user;film\n9;37\n", "lacks the column item; it has user, film"),
        ("user,item,rating\n1,2,3\n", "has unknown columns rating"),
        ("user,item\n", "has no rows below its header"),
        ("version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    ],
)
def test_faults_are_named(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_pairs(written(tmp_path, "p.csv", content))


def test_ids_are_spelt_as_in_data_files(tmp_path: Path) -> None:
    frames: list[dict[str, Any]] = [{"user": [9.0], "item": [37.0]}, {"user": ["9.0"], "item": ["37.0"]}]
    for frame in frames:
        path = tmp_path / "p.parquet"
        pl.DataFrame(frame).write_parquet(path)
        found = read_pairs(path)
        assert (found.users, found.items, found.times) == (["9"], ["37"], None)


def test_many_faults_are_counted(tmp_path: Path) -> None:
    path = written(tmp_path, "p.csv", "user,item\n" + ",1\n" * 15)
    with pytest.raises(DataError, match=r"line 11: user is empty .*; and 5 more$"):
        read_pairs(path)


@pytest.mark.parametrize("rows", ["1,x,A\n2,x,B\n3,x,\n4,x,A\n", "1,x,\n2,x,A\n9,y,C\n2,x,A\n3,x,B\n"])
def test_two_titles_of_one_item_are_refused(tmp_path: Path, rows: str) -> None:
    lines = {line.rpartition(",")[2]: number for number, line in reversed([*enumerate(rows.splitlines(), start=2)])}
    said = f"p.csv: line {lines['B']}: item 'x' has the title 'B' here and 'A' in line {lines['A']}; give one"
    with pytest.raises(DataError, match=f"{said}$"):
        read_pairs(written(tmp_path, "p.csv", "user,item,title\n" + rows))


def test_one_title_may_be_given_often(tmp_path: Path) -> None:
    path = written(tmp_path, "p.csv", "user,item,title\n1,x,A\n2,x,A\n3,x,\n4,y,B\n")
    assert read_pairs(path).titles == {"x": "A", "y": "B"}


class Model:
    """As much of an opened run as titles need."""

    def __init__(self, *, language: bool) -> None:
        self.language = object() if language else None
        self.data = SimpleNamespace(titles=["", *(f"Film {item}" for item in range(1, 9))])
        self.item_places = IdPlaces(["", *(f"i{item}" for item in range(1, 9))])


def test_titles_that_are_not_used_are_said(tmp_path: Path) -> None:
    lines = [f"1,i{item},Other {item}" for item in range(1, 8)] + ["1,i8,Film 8", "1,new,New", "2,i1,Other 1"]
    pairs = read_pairs(written(tmp_path, "p.csv", "\n".join(["user,item,title", *lines])))
    said = title_notes(pairs, cast(TrainedModel, Model(language=True)))
    assert said[0] == "item i1: the dataset's own title 'Film 1' is used, not the one given"
    assert (len(said), said[-1]) == (6, "and 2 more items")
    (said_once,) = title_notes(pairs, cast(TrainedModel, Model(language=False)))
    assert said_once == "titles are not used: the run has no language model that could read them"
    without = read_pairs(written(tmp_path, "q.csv", "user,item\n1,i1\n"))
    assert title_notes(without, cast(TrainedModel, Model(language=False))) == ()
