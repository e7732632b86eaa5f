"""Atomic writes under failure."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from collm import files as atomic
from collm.errors import RunError
from collm.files import replacing, write_atomically


def test_writes_text_and_bytes_and_makes_the_folder(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b.txt"
    write_atomically(target, "ä")
    assert target.read_bytes() == "ä".encode()
    write_atomically(target, b"\x00")
    assert target.read_bytes() == b"\x00"
    assert [path.name for path in target.parent.iterdir()] == ["b.txt"]


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission is missing"),
        (errno.EIO, "look at"),
    ],
)
def test_failure_names_path_and_advice_and_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, advice: str
) -> None:
    target = tmp_path / "results.json"
    target.write_text("old")

    def fail(_: Path) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(atomic, "sync", fail)
    with pytest.raises(RunError, match=rf"results\.json: cannot be written .*{advice}.*repeat the command"):
        write_atomically(target, "new")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_real_full_disk(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("/dev/full is missing")
    with pytest.raises(RunError, match="disk is full"), replacing(tmp_path / "x") as temporary:
        temporary.symlink_to(full)
        temporary.write_bytes(b"data")
    assert list(tmp_path.iterdir()) == []


def test_error_inside_the_block_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stop"), replacing(tmp_path / "x") as temporary:
        temporary.write_text("half")
        raise ValueError("stop")
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(RunError, match="cannot be written"):
        write_atomically(tmp_path / "runs" / "x.json", "{}")


def test_error_about_another_file_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="other"), replacing(tmp_path / "x") as temporary:
        temporary.write_text("half")
        (tmp_path / "other").read_text()
    assert list(tmp_path.iterdir()) == []


def test_full_disk_reported_by_native_code(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="disk is full"), replacing(tmp_path / "x"):
        raise ValueError("I/O error: No space left on device (os error 28)")
