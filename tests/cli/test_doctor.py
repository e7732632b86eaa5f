"""`collm doctor`: what it looks at and says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from collm.cli import context
from collm.cli.doctor import _processor_use
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


@pytest.mark.parametrize(
    ("threads", "wait_policy", "allocator", "advice"),
    [
        (2, "passive", "C library", ["tcmalloc", "OMP_WAIT_POLICY=active"]),
        (2, "passive", "tcmalloc", ["OMP_WAIT_POLICY=active"]),
        (1, "passive", "C library", ["tcmalloc"]),
        (2, "active", "tcmalloc", []),
        (1, "unset", None, []),
    ],
)
def test_doctor_says_what_makes_tuning_on_a_processor_faster(
    threads: int, wait_policy: str, allocator: str | None, advice: list[str]
) -> None:
    finding = _processor_use({"threads": threads, "wait_policy": wait_policy, "allocator": allocator})
    named = [each for each in ("tcmalloc", "OMP_WAIT_POLICY=active") if each in finding.fix]
    assert (finding.state, named) == ("ok", advice)
    assert ("docs/speed.md#allocator-and-threads" in finding.fix) is bool(advice)
