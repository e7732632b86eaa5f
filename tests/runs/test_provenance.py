"""What is recorded of the command and of the repositories around it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from collm.runs import environment as provenance
from collm.runs.environment import UNRECORDED, Provenance


def git(folder: Path, *words: str) -> str:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    known = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "init.defaultBranch=b")
    done = subprocess.run(["git", *known, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    (root / "specs").mkdir(parents=True)
    (root / "specs" / "a.yaml").write_text("name: a\n")
    (root / ".gitignore").write_text("runs/\n")
    git(root, "init")
    git(root, "add", ".")
    git(root, "commit", "-m", "first")
    return root


def state(**places: Path) -> dict[str, object]:
    (found,) = Provenance.of((), places).plain()["git"]
    return dict(found)


def test_a_clean_tree_has_its_commit(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    assert state(spec=repository / "specs") == {"of": ("spec",), "commit": commit, "dirty": False, "untracked": 0}


def test_changed_and_unknown_files_are_told_apart(repository: Path) -> None:
    (repository / "runs").mkdir()
    (repository / "runs" / "x").write_text("ignored")
    (repository / "new.yaml").write_text("name: new\n")
    (repository / "news").mkdir()
    (repository / "news" / "a\nb").write_text("x")
    assert (state(here=repository)["dirty"], state(here=repository)["untracked"]) == (False, 2)
    (repository / "specs" / "a.yaml").write_text("name: b\n")
    assert (state(here=repository)["dirty"], state(here=repository)["untracked"]) == (True, 2)
    git(repository, "add", "specs/a.yaml")
    assert state(here=repository)["dirty"] is True
    git(repository, "mv", ".gitignore", ".other")
    assert state(here=repository)["dirty"] is True


def test_two_folders_of_one_repository_are_one_entry_and_others_another(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "young").mkdir()
    git(tmp_path / "young", "init")
    places = {"working directory": repository, "spec": repository / "specs", "c": tmp_path / "plain"}
    first, second = Provenance.of((), places | {"d": tmp_path / "young"}).git
    assert first.of == ("working directory", "spec")
    assert (second.of, second.commit, second.dirty, second.unknown) == (("d",), None, False, "")
    assert Provenance.of((), {"c": tmp_path / "plain"}).plain() == {}
    assert UNRECORDED.plain() == {}


def test_no_address_path_or_program_of_a_repository_takes_part(repository: Path) -> None:
    git(repository, "remote", "add", "origin", "https://me:secret@host/x.git")
    git(repository, "config", "core.fsmonitor", "touch started; false")
    written = json.dumps(Provenance.of(("collm",), {"spec": repository}).plain())
    assert "secret" not in written
    assert "host" not in written
    assert str(repository) not in written
    assert not (repository / "started").exists()


def test_what_git_refuses_is_said(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (repository / ".git" / "HEAD").write_text("broken")
    found = state(spec=repository)
    assert (found["commit"], found["dirty"], found["untracked"]) == (None, None, None)
    assert "git could not read the repository" in str(found["unknown"])
    monkeypatch.setattr(provenance, "_GIT", ("no-such-program-as-git",))
    assert state(spec=repository)["unknown"] == "git is not installed"


def test_a_slow_comparison_leaves_the_commit(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = provenance._ask

    def slow(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
        if words[0] == "status":
            raise subprocess.TimeoutExpired("git", 20)
        return ask(root, *words)

    monkeypatch.setattr(provenance, "_ask", slow)
    found = state(spec=repository)
    assert found["commit"] == git(repository, "rev-parse", "HEAD")
    assert (found["dirty"], found["unknown"]) == (None, "git could not compare the files (TimeoutExpired)")


def test_the_command_line_is_kept_without_its_passwords() -> None:
    words = (
        "collm",
        "run",
        "a.yaml",
        "--set",
        "x.storage=postgresql://me:pw@host/b",
        "--set",
        "y.token=abc",
        "\ud800\n",
    )
    kept = Provenance.of(words, {}).plain()["command"]
    assert kept == [
        "collm", "run", "a.yaml", "--set", "x.storage=postgresql://***@host/b", "--set", "y.token=***", "\\ud800\\n",
    ]  # fmt: skip
    json.dumps(kept, ensure_ascii=False).encode()
