"""Folders of parts: order, marks of writers, columns in folder names, and names that look like patterns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from collm.errors import DataError
from collm.ingest.bad_rows import BadRows
from collm.ingest.read_rows import read_rows, sample_file
from collm.ingest.table_files import parts_of
from collm.ingest.typed_rows import WantedColumns

WANTED = WantedColumns(
    {"user": ("who",), "stars": ("stars",)}, {"user": pl.String(), "stars": pl.Float64()}, ("user",), ids=("user",)
)


def part(path: Path, first: int, n: int = 10) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = pl.DataFrame({"who": range(first, first + n), "stars": [4.5] * n})
    frame.write_parquet(path) if path.suffix == ".parquet" else frame.write_csv(path)


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_parts_are_one_table_in_the_order_of_their_numbers(tmp_path: Path, ending: str) -> None:
    folder = tmp_path / f"ratings.{ending}"
    for number in (10, 2, 1, 0):
        part(folder / f"part.{number}.{ending}", 10 * min(number, 3))
    (folder / "_SUCCESS").touch()
    (folder / f".part.0.{ending}.crc").write_bytes(b"crc")
    (folder / "_temporary" / "x").mkdir(parents=True)
    frame = read_rows(folder, WANTED, bad=BadRows())
    assert frame["user"].to_list() == [str(n) for n in range(40)]
    assert frame["line"].is_sorted()
    assert frame["line"].n_unique() == 40
    sample = sample_file(folder)
    assert sample.rows.height == 40
    assert sample.format.startswith("4 parts of ")


def test_folder_names_are_columns(tmp_path: Path) -> None:
    for name, first in (("who=u%20%C3%A9", 0), ("who=__HIVE_DEFAULT_PARTITION__", 10)):
        folder = tmp_path / "t" / name
        folder.mkdir(parents=True)
        pl.DataFrame({"stars": [float(first)]}).write_parquet(folder / "p.parquet")
    frame = read_rows(tmp_path / "t", replace(WANTED, required=()), bad=BadRows())
    assert frame.select("user", "stars").rows() == [(None, 10.0), ("u é", 0.0)]
    assert set(sample_file(tmp_path / "t").rows.columns) == {"who", "stars"}


def test_a_bad_row_is_named_by_part_and_line(tmp_path: Path) -> None:
    part(tmp_path / "t" / "a.csv", 0)
    part(tmp_path / "t" / "b.csv", 10)
    with (tmp_path / "t" / "b.csv").open("a") as file:
        file.write(",1\n")
    bad = BadRows()
    read_rows(tmp_path / "t", WANTED, bad=bad)
    assert bad.frame().select("file", "line", "reason").rows() == [("b.csv", 12, "user is missing")]
    with (tmp_path / "t" / "a.csv").open("a") as file:
        file.write("1\n")
    assert sample_file(tmp_path / "t").bad == "too few fields: 1"


def test_folders_without_a_table(tmp_path: Path) -> None:
    (tmp_path / "empty.parquet").mkdir()
    (tmp_path / "empty.parquet" / "_SUCCESS").touch()
    with pytest.raises(DataError, match=r"empty\.parquet: is a folder that holds no files to read"):
        parts_of(tmp_path / "empty.parquet")
    part(tmp_path / "mixed" / "a.csv", 0)
    part(tmp_path / "mixed" / "b.parquet", 0)
    with pytest.raises(DataError, match=r"files of several formats \(csv, parquet: a\.csv, b\.parquet\)"):
        parts_of(tmp_path / "mixed")
    with pytest.raises(DataError, match="no such file"):
        parts_of(tmp_path / "gone")


@pytest.mark.parametrize("name", ["r[1].parquet", "r?.parquet", "r*.parquet", "split=train/r[12].parquet"])
def test_names_are_no_patterns(tmp_path: Path, name: str) -> None:
    for other in ("r1.parquet", "r2.parquet", "split=train/r1.parquet"):
        part(tmp_path / other, 100)
    part(tmp_path / name, 0)
    frame = read_rows(tmp_path / name, WANTED, bad=BadRows())
    assert frame["user"].to_list() == [str(n) for n in range(10)]
    assert sample_file(tmp_path / name).rows.columns == ["who", "stars"]
