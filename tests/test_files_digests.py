"""Digests follow bytes: not names, not times, not what was read before."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collm import files as digests
from collm.errors import DataError
from collm.files import file_digest, folder_files, member_digest, place_digest


def test_a_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    assert file_digest(tmp_path / "a") == hashlib.sha256(b"one").hexdigest()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert file_digest(tmp_path / "link") == file_digest(tmp_path / "a")


@given(st.lists(st.binary(min_size=4, max_size=4), min_size=2, max_size=6))
def test_a_file_written_again_at_once_is_read_again(tmp_path_factory: pytest.TempPathFactory, contents) -> None:
    path = tmp_path_factory.mktemp("again") / "file"
    for content in contents:
        path.write_bytes(content)
        os.utime(path, ns=(1, 1))
        assert file_digest(path) == hashlib.sha256(content).hexdigest()


def test_a_settled_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    monkeypatch.setattr(digests, "_SETTLED_NS", 0)
    first = file_digest(path)
    monkeypatch.setattr(digests.hashlib, "file_digest", lambda *_: pytest.fail("read twice"))
    assert file_digest(path) == first


def test_a_copy_that_keeps_the_old_time_is_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    monkeypatch.setattr(digests, "_SETTLED_NS", 0)
    first, times = file_digest(path), path.stat()
    monkeypatch.setattr(digests, "_SETTLED_NS", 2_000_000_000)
    while path.stat().st_ctime_ns == times.st_ctime_ns:
        path.write_bytes(b"two")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_mtime_ns == times.st_mtime_ns
    assert file_digest(path) != first


def test_a_folder_is_its_names_and_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "x.bin").write_bytes(b"x")
        (tmp_path / name / "readme").write_bytes(b"r")
    assert folder_files(tmp_path / "a") == ["deep/x.bin", "readme"]
    assert place_digest(tmp_path / "a") == place_digest(tmp_path / "b")
    (tmp_path / "b" / "readme").write_bytes(b"R")
    assert place_digest(tmp_path / "a") != place_digest(tmp_path / "b")
    (tmp_path / "a" / "readme").rename(tmp_path / "a" / "readme.md")
    assert place_digest(tmp_path / "a") != place_digest(tmp_path / "b")


def test_patterns_say_which_files_of_a_folder_count(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"w")
    before = place_digest(tmp_path, ("*.safetensors",))
    (tmp_path / "README.md").write_bytes(b"r")
    assert place_digest(tmp_path, ("*.safetensors",)) == before
    (tmp_path / "model.safetensors").write_bytes(b"W")
    assert place_digest(tmp_path, ("*.safetensors",)) != before


def test_members_of_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("a/x.csv", b"one")
    assert member_digest(tmp_path / "z.zip", "a/x.csv") == hashlib.sha256(b"one").hexdigest()
    content = bytearray((tmp_path / "z.zip").read_bytes())
    content[content.index(b"one")] ^= 1
    (tmp_path / "z.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"'a/x\.csv' cannot be read .*get the file again"):
        member_digest(tmp_path / "z.zip", "a/x.csv")


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: cannot be read \(No such file"):
        file_digest(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe: cannot be read"):
        file_digest(tmp_path / "pipe")
    assert folder_files(tmp_path) == []
