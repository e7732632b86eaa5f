"""Lines where stderr is a file, a bar where it is a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from collm.fetching import download


def test_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with download.shown_progress("x.gz") as progress:
        progress(1_000_000, 3_000_000)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(download, "SECONDS_BETWEEN_LINES", 0.0)
    with download.shown_progress("x.gz") as progress:
        progress(1_000_000, 3_000_000)
        progress(1_500_000, None)
    assert capsys.readouterr().err == "x.gz: 1.0 MB of 3.0 MB\nx.gz: 1.5 MB\n"


def test_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(download, "Console", lambda stderr: Console(file=shown, force_terminal=True, width=100))
    with download.shown_progress("x.gz") as progress:
        progress(1_000_000, 3_000_000)
    assert "x.gz" in shown.getvalue() and "1.0/3.0 MB" in shown.getvalue()
