"""Files that are something else than their names say: each is named as what it is."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from collm.errors import DataError
from collm.ingest.bad_rows import BadRows
from collm.ingest.read_rows import read_rows, sample_file
from collm.ingest.table_files import check_kind, parts_of
from collm.ingest.typed_rows import WantedColumns

TABLE = "user,item,rating\n" + "".join(f"{n},{n},3\n" for n in range(500))
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.csv", TABLE)
    return buffer.getvalue()


def parquet() -> bytes:
    buffer = io.BytesIO()
    pl.read_csv(TABLE.encode()).write_parquet(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", r"is empty \(0 bytes\)"),
        ("a.csv", LFS, "is a Git LFS pointer of a file of 12,345 bytes, .* `git lfs pull`"),
        ("a.parquet", LFS, "Git LFS pointer"),
        ("a.json", b"\n<!DOCTYPE HTML><html>404</html>", "is a web page"),
        ("a.csv", b"<?xml version='1.0'?><Error>AccessDenied</Error>", "is a web page"),
        ("a.csv.gz", b"<html>quota exceeded", "is a web page"),
        ("a.csv", zipped(), "is a zip archive .*unpack it"),
        ("a.csv", zipped()[:200], "is a zip archive that ends in the middle"),
        ("a.csv", parquet(), "is a parquet file; give it the ending"),
        ("a.parquet", parquet()[:-10], "ends in the middle, as a half download does"),
        ("a.parquet", parquet()[: len(parquet()) // 2], "ends in the middle"),
        ("a.parquet", b"PAR1", "ends in the middle"),
        ("a.parquet", TABLE.encode(), "its first bytes are 'user,item,rating"),
        ("a.csv", bz2.compress(TABLE.encode()), "compressed with bzip2"),
        ("a.csv", lzma.compress(TABLE.encode()), "compressed with xz"),
        ("a.json", pickle.dumps([1], protocol=4), "is a Python pickle, which is not loaded"),
        ("a.csv", b"SQLite format 3\0" + bytes(100), "is an SQLite database"),
    ],
)
def test_kinds(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: .*{message}"):
        sample_file(path)


@pytest.mark.parametrize("start", ["BZh5,b\n", "Rar,b\n", "ORC,b\n", "%,b\n", "<html,b\n"[1:], "PK,b\n", "(,b\n"])
def test_text_that_begins_like_them_is_text(tmp_path: Path, start: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(start + "1,2\n")
    check_kind(path, parquet=False)
    assert sample_file(path).rows.height == 1


def test_sound_files_pass(tmp_path: Path) -> None:
    for name, content in (("a.csv", TABLE.encode()), ("a.csv.gz", gzip.compress(TABLE.encode())), ("a.pq", parquet())):
        (tmp_path / name).write_bytes(content)
        assert sample_file(tmp_path / name).rows.height == 500


@pytest.mark.parametrize("keep", [12, 60])
def test_a_gz_file_that_breaks_off_is_said(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(TABLE.encode())[:keep])
    with pytest.raises(DataError, match="file ends in the middle"):
        sample = sample_file(path)
        raise DataError(sample.bad)


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
