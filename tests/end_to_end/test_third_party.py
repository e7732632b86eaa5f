"""A stranger's package, all the way: wheel, install beside collm, list, complete, check, run, uninstall, unknown."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from generated import write_data

EXAMPLE = Path(__file__).resolve().parents[2] / "plugins" / "examples" / "collm-implicit"
SPEC = """\
name: als
dataset: {name: movielens-small, path: data}
encoder: {name: implicit-als, embedding_size: 8, confidence: 4}
evaluate: {resamples: 50}
"""

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("implicit") is None,
    reason="the library implicit is not installed: pip install -c constraints.txt implicit",
)


@dataclass(frozen=True)
class Environment:
    """A fresh environment that sees our installed packages, `collm` among them, and has its own place for others."""

    folder: Path
    python: str

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
        return subprocess.run(
            [self.python, "-m", *arguments],
            cwd=self.folder,
            env={**clean, "COLLM_CACHE": str(self.folder / "cache"), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    def pip(self, *arguments: str) -> None:
        done = self.call("pip", "--disable-pip-version-check", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr

    def answer(self, *arguments: str) -> dict[str, Any]:
        done = self.call("collm", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        content: dict[str, Any] = json.loads(done.stdout)
        return content


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder = tmp_path_factory.mktemp("fresh")
    venv.EnvBuilder(with_pip=False, symlinks=True).create(folder / "env")
    python = folder / "env" / "bin" / "python"
    (site,) = (folder / "env").glob("lib/python*/site-packages")
    # addsitedir and not a plain path: an editable `collm` is found through the .pth files of our environment.
    ours = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    lines = [f"import site; site.addsitedir({path!r})" for path in sorted(ours)]
    (site / "ours.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_data(folder / "data")
    (folder / "als.yaml").write_text(SPEC, encoding="utf-8")
    return Environment(folder, str(python))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's wheel, built from a copy so that no build folder appears in the tree."""
    root = tmp_path_factory.mktemp("wheel")
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    shutil.copytree(EXAMPLE, root / "source", ignore=ignore)
    command = [sys.executable, "-m", "pip", "wheel", str(root / "source"), "-w", str(root)]
    done = subprocess.run(
        [*command, "--no-build-isolation", "--no-deps", "--no-index"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = root.glob("collm_implicit-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(fresh: Environment, wheel: Path) -> Environment:
    # Dependencies are not left out: what the wheel asks for must be there already, since nothing can be downloaded.
    fresh.pip("install", "--no-index", str(wheel))
    return fresh


def test_it_is_listed_with_its_distribution(installed: Environment) -> None:
    (mine,) = [each for each in installed.answer("plugins", "--json")["plugins"] if each["name"] == "implicit"]
    assert (mine["distribution"], mine["version"], mine["ok"]) == ("collm-implicit", "0.1.0", True)
    assert mine["components"] == [{"kind": "encoder", "name": "implicit-als"}]
    done = installed.call("collm", "plugins")
    assert "implicit  (collm-implicit 0.1.0)  encoder implicit-als" in done.stdout


def test_the_schema_completes_it(installed: Environment) -> None:
    schema = installed.answer("schema")
    mine = schema["$defs"]["encoder.implicit-als"]
    assert mine["properties"]["name"]["const"] == "implicit-als"
    assert {"embedding_size", "confidence", "regularization", "iterations"} <= set(mine["properties"])
    assert all(mine["properties"][name]["description"] for name in ("embedding_size", "confidence"))
    assert "encoder.implicit-als" in json.dumps(schema["$defs"]["section.encoder"])


def test_it_keeps_the_contract(installed: Environment) -> None:
    answer = installed.answer("plugin", "check", "encoder", "implicit-als", "--json")
    assert (answer["ok"], answer["distribution"]) == (True, "collm-implicit")
    assert [each["fault"] for each in answer["checks"] if not each["ok"]] == []


def test_mistakes_in_a_spec_name_its_fields(installed: Environment) -> None:
    done = installed.call("collm", "validate", "als.yaml", "--set", "encoder.confidance=3")
    assert done.returncode == 2
    assert "confidance" in done.stderr
    assert "did you mean 'confidence'" in done.stderr


def test_it_runs_from_yaml(installed: Environment) -> None:
    result = installed.answer("run", "als.yaml", "--threads", "1", "--json")
    auc = result["metrics"]["test"]["all"]["auc"]
    assert 0 < auc["value"] < 1
    assert auc["n"] == result["counts"]["test"]
    assert {"item-mean", "item-user-mean", "bias-logistic"} <= set(result["floors"]["test"]["all"])
    environment = json.loads((installed.folder / result["run_dir"] / "environment.json").read_text())
    used = environment["plugins"]["collm-implicit"]
    assert used == {"version": "0.1.0", "components": {"encoder implicit-als": "collm-implicit 0.1.0, version 1"}}
    assert "encoder implicit-als" not in environment["plugins"]["collm"]["components"]
    assert environment["command"] == ["collm", "run", "als.yaml", "--threads", "1", "--json"]


def test_its_own_tests_pass(installed: Environment, tmp_path: Path) -> None:
    tests = shutil.copytree(EXAMPLE / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    done = installed.call("pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tests))
    assert done.returncode == 0, done.stdout + done.stderr


def test_collm_itself_does_not_ask_for_it() -> None:
    asked = " ".join(importlib.metadata.requires("collm") or ())
    assert "implicit" not in asked


def test_uninstalled_it_is_unknown(installed: Environment) -> None:
    """The last one: nothing after it finds the plugin."""
    installed.pip("uninstall", "--yes", "collm-implicit")
    names = {each["name"] for each in installed.answer("plugins", "--json")["plugins"]}
    assert "implicit" not in names
    assert "mf" in names
    done = installed.call("collm", "validate", "als.yaml")
    assert done.returncode == 2
    assert "als.yaml:3:17: encoder.name: unknown encoder 'implicit-als'" in done.stderr
    assert "installed encoder names: " in done.stderr
    assert installed.call("collm", "plugin", "check", "encoder", "implicit-als").returncode == 2
