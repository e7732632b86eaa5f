"""Adjacency lists: pairs in their order, and what unusual lines become."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from collm.errors import DataError
from collm.ingest.adjacency import AdjacencyList, read_adjacency
from collm.ingest.bad_rows import BadRows


def read(folder: Path, content: bytes, name: str = "train.txt", bad: BadRows | None = None) -> AdjacencyList:
    path = folder / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return read_adjacency(path, bad=BadRows() if bad is None else bad)


@pytest.mark.parametrize("name", ["train.txt", "train.txt.gz"])
def test_pairs_in_the_order_of_lines_and_items(tmp_path: Path, name: str) -> None:
    found = read(tmp_path, b"0 48 2 16\r\nu7\tA  B \n\n", name)
    assert found.rows.rows() == [("0", "48", 1), ("0", "2", 2), ("0", "16", 3), ("u7", "A", 4), ("u7", "B", 5)]
    assert (found.n_lines, found.notes()) == (2, ())


def test_unusual_lines_are_said(tmp_path: Path) -> None:
    found = read(tmp_path, b"0 1 2\n1\n0 5\n2 \n")
    assert found.rows.height == 3
    assert found.notes()[0] == "2 of 4 lines hold a user without items"
    assert found.notes()[1].startswith("1 of 4 lines belong to a user who has an earlier line")


def test_bad_lines_and_pairs(tmp_path: Path) -> None:
    bad = BadRows()
    found = read(tmp_path, b"0 1 nan 2\n\xff 3\n1 4\n", bad=bad)
    assert found.rows.select("user", "item").rows() == [("0", "1"), ("0", "2"), ("1", "4")]
    assert bad.counts() == {"not UTF-8 text": 1, "item is 'nan', a word for a missing value": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n\n", "none of its 0 lines holds a user and items"),
        (b"0,1,2\n1,2\n", "none of its 2 lines holds a user and items, separated by blanks; the first is '0,1,2'"),
        (b"0 7 7.0\n", "one id in two spellings"),
        (b"<html>", "web page"),
    ],
)
def test_no_adjacency_list(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, content)


def test_a_folder_of_parts_and_another_format(tmp_path: Path) -> None:
    for number in (10, 9):
        (tmp_path / f"part-{number}.txt").write_bytes(f"{number} 1\n".encode())
    (tmp_path / "_SUCCESS").write_bytes(b"")
    assert read_adjacency(tmp_path, bad=BadRows()).rows["user"].to_list() == ["9", "10"]
    with pytest.raises(DataError, match="an adjacency list is a text file"):
        read(tmp_path / "..", b"PAR1", f"{tmp_path.name}.parquet")
