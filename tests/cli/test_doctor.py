"""`collm doctor`: what it looks at and says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from collm.cli import context
from collm.cli.doctor import _allocator
from collm.cli.main import call
from collm.registry import registry_of


def test_doctor_says_what_is_broken_and_how_to_fix_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("COLLM_CACHE", str(tmp_path))
    monkeypatch.setattr(context.CliState, "registry", lambda _: registry_of([]))
    assert call(["doctor", "--json", "--runs-dir", str(tmp_path)]) == 0
    subjects = {finding["subject"]: finding for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert subjects["torch"]["state"] == "ok"
    assert str(tmp_path) in subjects["cache"]["found"]


def test_doctor_names_a_preloaded_allocator() -> None:
    finding = _allocator("7f00-7f01 r-xp 0 0:0 1 /usr/lib/libtcmalloc_minimal.so.4\n")
    assert (finding.state, finding.found, finding.fix) == ("ok", "tcmalloc", "")


def test_doctor_says_where_a_faster_allocator_is_described() -> None:
    finding = _allocator("7f00-7f01 r-xp 0 0:0 1 /usr/lib/libc.so.6\n")
    assert (finding.state, finding.found) == ("ok", "that of the C library")
    assert "docs/speed.md#allocator-and-threads" in finding.fix
