"""The wheel holds everything: built without isolation, installed outside the tree, used from there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def declared_plugins() -> dict[str, str]:
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    plugins: dict[str, str] = content["project"]["entry-points"]["collm"]
    return plugins


def plugin_folders() -> set[str]:
    return {path.parent.name for path in (ROOT / "plugins").glob("collm_*/__init__.py")}


def test_every_plugin_folder_has_an_entry_point_of_its_own_name() -> None:
    declared = declared_plugins()
    assert set(declared.values()) == plugin_folders()
    assert {name: f"collm_{name.replace('-', '_')}" for name in declared} == declared


def test_every_plugin_has_a_readme() -> None:
    assert sorted(name for name in plugin_folders() if not (ROOT / "plugins" / name / "README.md").is_file()) == []


def test_constraints_pin_every_dependency() -> None:
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    needed = content["project"]["dependencies"] + content["project"]["optional-dependencies"]["dev"]
    names = {re.split(r"[\[<>=]", requirement)[0].strip().lower() for requirement in needed}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.split("==")[0].strip().lower() for line in lines if "==" in line and not line.startswith("#")}
    assert names - pinned - {"setuptools", "wheel"} == set()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built from a copy of the sources so that no build folder appears in the tree."""
    source = tmp_path_factory.mktemp("source")
    target = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE", "collm", "plugins"):
        _copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", str(source), "--no-build-isolation", "--no-deps", "--no-index"]
    built = subprocess.run([*command, "-w", str(target)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (found,) = target.glob("collm-*.whl")
    return found


def test_wheel_holds_core_plugins_and_licence_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"collm", *plugin_folders()}
    assert "collm/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {f"{plugin}/README.md" for plugin in plugin_folders()} <= set(names)
    templates = (ROOT / "collm" / "scaffold" / "templates").rglob("*.tmpl")
    assert {path.relative_to(ROOT).as_posix() for path in templates} <= set(names)


def test_installed_wheel_lists_its_plugins_outside_the_tree(wheel: Path, tmp_path: Path) -> None:
    python = _environment_beside_ours(tmp_path / "env")
    installed = subprocess.run(
        [python, "-m", "pip", "install", "--no-index", "--no-deps", "--ignore-installed", str(wheel)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert installed.returncode == 0, installed.stdout + installed.stderr
    place = _call(python, "-c", "import collm; print(collm.__file__)", cwd=tmp_path).strip()
    assert Path(place).is_relative_to(tmp_path / "env")
    listed = json.loads(_call(python, "-m", "collm", "plugins", "--json", cwd=tmp_path))["plugins"]
    assert {plugin["name"] for plugin in listed} == set(declared_plugins())
    assert [plugin["cause"] for plugin in listed if not plugin["ok"]] == []


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    else:
        shutil.copy2(source, target)


def _environment_beside_ours(folder: Path) -> str:
    """A fresh environment that sees our dependencies, but not our editable `collm`."""
    venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
    python = folder / "bin" / "python"
    answer = _call(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder)
    dependencies = folder / "dependencies"
    dependencies.mkdir()
    for name in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(name).iterdir():
            # Links, not one path to all of it: the editable install and its metadata stay out that way.
            if (
                not entry.name.lower().startswith(("collm", "__editable__"))
                and not (dependencies / entry.name).exists()
            ):
                (dependencies / entry.name).symlink_to(entry)
    (Path(answer.strip()) / "dependencies.pth").write_text(str(dependencies) + "\n", encoding="utf-8")
    return str(python)


def _call(*command: str, cwd: Path) -> str:
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=clean)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
