"""Finding files in folders and zips."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from collm.errors import DataError
from collm.ingest.source_files import SourceFiles

NAMES = ("a.txt", "b.txt")


def folder_and_zip(tmp_path: Path) -> tuple[Path, Path]:
    folder = tmp_path / "flat"
    folder.mkdir()
    archive = tmp_path / "nested.zip"
    with zipfile.ZipFile(archive, "w") as writer:
        for name in NAMES:
            (folder / name).write_text(f"content of {name}")
            writer.writestr(f"ml/{name}", f"content of {name}")
        writer.writestr(f"__MACOSX/{NAMES[0]}", "junk")
    return folder, archive


def test_folder_and_zip_agree(tmp_path: Path) -> None:
    folder, archive = (SourceFiles(path, NAMES, owner="x") for path in folder_and_zip(tmp_path))
    assert folder.read("b.txt") == archive.read("b.txt") == b"content of b.txt"
    assert folder.content_hash() == archive.content_hash()
    (tmp_path / "flat" / "b.txt").write_text("changed")
    assert folder.content_hash() != archive.content_hash()


def test_problems_are_named(tmp_path: Path) -> None:
    folder, archive = folder_and_zip(tmp_path)
    with pytest.raises(DataError, match=r"dataset\.path: 'x' needs a\.txt, b\.txt: give the folder, or the zip"):
        SourceFiles(None, NAMES, owner="x")
    with pytest.raises(DataError, match="does not exist; 'x' needs"):
        SourceFiles(tmp_path / "none", NAMES, owner="x")
    with pytest.raises(DataError, match=r"'x' needs the file 'c\.txt', found a\.txt, b\.txt"):
        SourceFiles(folder, ("c.txt",), owner="x")
    with pytest.raises(DataError, match="neither a folder nor a readable zip"):
        SourceFiles(folder / "a.txt", NAMES, owner="x")
    for name in ("one", "two"):
        (tmp_path / "both" / name).mkdir(parents=True)
        (tmp_path / "both" / name / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"found 2 files named 'a\.txt' \(one/a\.txt, two/a\.txt\); point "):
        SourceFiles(tmp_path / "both", ("a.txt",), owner="x")
    damaged = archive.read_bytes().replace(b"content of b.txt", b"CONTENT of b.txt")
    archive.write_bytes(damaged)
    with pytest.raises(DataError, match=r"'b\.txt' cannot be read \(Bad CRC-32"):
        SourceFiles(archive, NAMES, owner="x").read("b.txt")
