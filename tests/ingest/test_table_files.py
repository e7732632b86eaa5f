"""Files that are something else than their names say: each is named as what it is."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import zipfile
from pathlib import Path

import polars as pl
import pytest

from collm.errors import DataError
from collm.ingest.read_rows import sample_file
from collm.ingest.table_files import check_kind

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
