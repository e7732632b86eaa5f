"""Making in the cache: one process at a time, leftovers cleared, disk trouble named."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from collm.cache import leftovers, making
from collm.errors import DataError


def test_what_a_dead_process_left_is_cleared(tmp_path: Path) -> None:
    target = tmp_path / "set" / "ratings.parquet"
    for name in (".convert-dead/.download-dead/x.whl", ".ratings.parquet.12-ab.tmp/half", ".download-y/x.whl"):
        path = target.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (target.parent / ".ratings.parquet.9-cd.tmp").write_bytes(b"half")
    assert len(leftovers(target)) == 4
    with making(target):
        target.write_bytes(b"made")
    assert [path.name for path in target.parent.iterdir()] == ["ratings.parquet"]


def test_the_lock_lies_beside_the_folder(tmp_path: Path) -> None:
    with making(tmp_path / "weights" / "model"):
        assert list((tmp_path / "weights").iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_disk_trouble_is_named(tmp_path: Path, number: int) -> None:
    with pytest.raises(DataError, match=r"model: cannot be written .* set COLLM_CACHE"), making(tmp_path / "model"):
        raise OSError(number, "disk trouble")


def test_a_cache_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"x")
    with (
        pytest.raises(DataError, match=r"written \(Not a directory\)"),
        making(tmp_path / "cache" / "a" / "b"),
    ):
        pass


def test_a_full_disk_is_named_whoever_says_it(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match=r"written \(No space left on device\); free"),
        making(tmp_path / "m"),
    ):
        raise ValueError("SafetensorError: I/O error: No space left on device (os error 28)")
    with pytest.raises(ValueError, match="other"), making(tmp_path / "m"):
        raise ValueError("other")
