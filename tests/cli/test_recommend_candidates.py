"""The file of `--candidates`: ids of any text, one per line; what cannot be read is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from collm.cli.recommend import _read_candidates
from collm.errors import UsageError


def test_a_line_ends_at_a_newline_alone(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_bytes("\ufeffa\u0085b\r\n\n c\u2028d\n".encode())
    assert _read_candidates(path) == ["a\u0085b", "c\u2028d"]


@pytest.mark.parametrize("content", [b"\xff\xfe", b"\n \n", b""])
def test_files_without_ids_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ids.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"--candidates .*ids\.txt: (holds no item id|not UTF-8 text)"):
        _read_candidates(path)
