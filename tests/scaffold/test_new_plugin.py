"""What `collm plugin new` writes passes its own tests and the linter unmodified, and refuses what it cannot name."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from collm.component import KINDS
from collm.contracts.component_check import component_faults
from collm.errors import UsageError
from collm.hookspecs import REGISTER_HOOKS
from collm.registry import Registry, default_registry
from collm.scaffold.new_plugin import MAX_NAME_LENGTH, PluginNames, rendered_files, write_plugin

NAMES = {kind: f"some-{kind}" for kind in KINDS}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return default_registry()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> dict[str, Path]:
    """One new package of each kind."""
    parent = tmp_path_factory.mktemp("new-plugins")
    for kind in KINDS:
        write_plugin(kind, NAMES[kind], registry=registry, parent=parent)
    return {kind: parent / f"collm-{NAMES[kind]}" for kind in KINDS}


def run(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_new_encoder_passes_its_own_tests(folders: dict[str, Path]) -> None:
    done = run("pytest", "-q", "-p", "no:cacheprovider", cwd=folders["encoder"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_new_packages_of_the_other_kinds_pass_their_own_tests(folders: dict[str, Path]) -> None:
    # One process for all: starting one takes longer than their tests.
    others = [folder for kind, folder in folders.items() if kind != "encoder"]
    path = os.pathsep.join(str(folder) for folder in others)
    done = run("pytest", "-q", "-p", "no:cacheprovider", *map(str, others), cwd=others[0].parent, PYTHONPATH=path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["x", "a-very-long-name-with-many-parts".ljust(MAX_NAME_LENGTH, "x")])
def test_new_package_is_clean(kind, name: str, registry: Registry, tmp_path: Path) -> None:
    write_plugin(kind, name, registry=registry, parent=tmp_path)
    folder = tmp_path / f"collm-{name}"
    for command in (("check",), ("format", "--check")):
        done = run("ruff", *command, "--no-cache", ".", cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_entry_point_leads_to_a_sound_component(
    kind, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tomllib.loads((folders[kind] / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["name"] == f"collm-some-{kind}"
    (module,) = project["project"]["entry-points"]["collm"].values()
    monkeypatch.syspath_prepend(str(folders[kind]))
    package = __import__(module)
    (component,) = getattr(package, REGISTER_HOOKS[kind])()
    assert (component.kind, component.name) == (kind, f"some-{kind}")
    assert component_faults(component) == []


def test_every_file_is_rendered_whole() -> None:
    for kind in KINDS:
        content = rendered_files(PluginNames("my-model", kind))
        assert {"pyproject.toml", "README.md", "collm_my_model/__init__.py", "collm_my_model/config.py"} <= set(content)
        assert "tests/test_collm_my_model.py" in content
        for place, text in content.items():
            assert "$" not in place + text, place
            assert ".tmpl" not in place


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("encoder", "My_Model", "lower-case letters.*did you mean 'my-model'"),
        ("encoder", "collm-Deep", "did you mean 'deep'"),
        ("encoder", "3d", "beginning with a letter"),
        ("encoder", "a" * (MAX_NAME_LENGTH + 1), f"at most {MAX_NAME_LENGTH} characters"),
        ("encoder", "../up", "lower-case letters"),
        ("encoder", "", "cannot name a plugin"),
        ("encoder", "mf", r"encoder 'mf' is taken: plugin 'mf' \(collm .*\) gives it"),
        ("metric", "auc", "metric 'auc' is taken"),
        ("dataset", "mf", "the plugin name 'mf' is taken by plugin 'mf'"),
    ],
)
def test_names_that_cannot_be_used(kind, name: str, message: str, registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        write_plugin(kind, name, registry=registry, parent=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_installed_package_is_not_shadowed(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "collm_taken.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match="a package 'collm_taken' is installed already"):
        write_plugin("encoder", "taken", registry=registry, parent=tmp_path)


def test_existing_folder_is_left_alone(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "collm-mine").mkdir()
    (tmp_path / "collm-mine" / "notes.txt").write_text("kept")
    with pytest.raises(UsageError, match="collm-mine exists; nothing is overwritten"):
        write_plugin("encoder", "mine", registry=registry, parent=tmp_path)
    assert [path.name for path in (tmp_path / "collm-mine").iterdir()] == ["notes.txt"]
