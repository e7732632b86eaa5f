"""stdout carries the result and nothing else, whatever plugins print and whatever console there is."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from collm.cli import output
from collm.cli.main import call

SPEC = "name: t\ndataset: {name: tiny, n_users: 20}\nencoder: {name: mf, embedding_size: 4, fit: {epochs: 1}}\n"
LOUD = """
import atexit, os, sys
print("from the plugin's import")
sys.stdout.write("written")
os.write(1, b"from below Python")
os.system("echo from a child")
atexit.register(print, "at the end")
"""


@pytest.fixture
def loud_plugin(tmp_path: Path) -> dict[str, str]:
    """An environment with a plugin that writes to stdout in every way there is."""
    site = tmp_path / "site"
    facts = site / "loud-1.0.dist-info"
    facts.mkdir(parents=True)
    (site / "loud.py").write_text(LOUD)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: loud\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[collm]\nloud = loud\n")
    return {**os.environ, "PYTHONPATH": str(site)}


def collm(folder: Path, *arguments: str, env: dict[str, str], encoding: str = "utf-8") -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "collm", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, encoding=encoding, timeout=300)


@pytest.mark.parametrize(
    "arguments", [("validate", "t.yaml"), ("plugins",), ("run", "t.yaml", "--threads", "1"), ("runs",), ("doctor",)]
)
def test_only_json_is_on_stdout(tmp_path: Path, loud_plugin: dict[str, str], arguments: tuple[str, ...]) -> None:
    (tmp_path / "t.yaml").write_text(SPEC)
    (tmp_path / "runs").mkdir()
    done = collm(tmp_path, *arguments, "--json", env=loud_plugin)
    assert json.loads(done.stdout)
    if arguments != ("runs",):
        for said in ("from the plugin's import", "written", "from below Python", "from a child", "at the end"):
            assert said in done.stderr


def test_help_is_on_stdout(tmp_path: Path) -> None:
    done = collm(tmp_path, "run", "--help", env=dict(os.environ))
    assert "Run a spec or a suite" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "cp437", "utf-8"])
def test_consoles_of_any_encoding(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "t.yaml").write_text(SPEC.replace("name: t\n", "name: t\nhistory: {visibility: 'Привет †'}\n"), "utf-8")
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    done = collm(tmp_path, "validate", "t.yaml", "--json", env=env, encoding=encoding)
    assert done.returncode == 2
    (problem,) = json.loads(done.stdout)["problems"]
    assert "Привет †" in problem["message"]
    done = collm(tmp_path, "plugins", "--json", env=env, encoding=encoding)
    assert done.returncode == 0
    assert json.loads(done.stdout)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch):
    """What is emitted to a stdout of an encoding."""

    def emitted(encoding: str, emit) -> str:
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding=encoding, errors="backslashreplace")
        monkeypatch.setattr(sys, "stdout", stream)
        emit()
        stream.flush()
        monkeypatch.undo()
        return raw.getvalue().decode(encoding)

    return emitted


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_json_says_every_text_in_every_encoding(written, encoding: str) -> None:
    @given(st.text(alphabet=st.characters(codec=None)))
    def holds(text: str) -> None:
        shown = written(encoding, lambda: output.emit_json({"x": text, "y": [text, {"z": text}]}))
        assert json.loads(shown) == {"x": text, "y": [text, {"z": text}]}
        assert not {"\x1b", "\x7f", "\x9b", "\u2028", "\u202e"} & set(shown)

    holds()


def test_json_hides_passwords(written) -> None:
    shown = written("utf-8", lambda: output.emit_json({"url": "postgresql://me:p@ss:w@host/db"}))
    assert json.loads(shown) == {"url": "postgresql://me:***@host/db"}


def test_tables_show_markup_and_control_characters_as_text(written) -> None:
    table = Table()
    table.add_column("title")
    table.add_row("[red]x[/red] :smile: \x1b[8m")
    shown = written("utf-8", lambda: output.emit_table(table))
    assert "[red]x[/red] :smile: \\x1b[8m" in shown
    assert "\x1b" not in shown


def test_messages_do_not_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.yaml"
    path.write_text('name: "a\\x1b]0;x\\x07\\u2028b\\nc"\ndataset: {name: "\\x9b31m"}\nencoder: {name: mf}\n')
    assert call(["validate", str(path)]) == 2
    said = capsys.readouterr().err
    assert "\x1b" not in said and "\x9b" not in said
    assert len(said.splitlines()) == 2


def test_an_end_of_file_is_no_interrupt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def ends(*_: object, **__: object) -> None:
        raise EOFError("unexpected end")

    monkeypatch.setattr("collm.registry.default_registry", ends)
    assert call(["plugins"]) == 1
    assert "unexpected EOFError: unexpected end" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")]
)
def test_full_memory_is_no_bug(monkeypatch: pytest.MonkeyPatch, capsys, error: Exception) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("collm.registry.default_registry", fails)
    assert call(["plugins"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("out of memory (")
    assert "tuning.micro_batch_tokens" in said
