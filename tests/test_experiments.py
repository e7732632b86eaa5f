"""Every shipped experiment resolves, and says what it is for and how to run it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from collm.registry import default_registry
from collm.spec.expand import Suite, load_any

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = ROOT / "experiments"
# Studies have tests of their own.
FILES = sorted(path for path in EXPERIMENTS.rglob("*.yaml") if path.parent.name != "studies")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(EXPERIMENTS)))
def test_experiment_resolves(path: Path, tmp_path: Path) -> None:
    loaded = load_any(path, ["dataset.path=somewhere"], default_registry(), cwd=tmp_path)
    specs = [each.spec for each in loaded.runs] if isinstance(loaded, Suite) else [loaded]
    assert specs
    assert {str(spec.dataset.path) for spec in specs} == {str(tmp_path / "somewhere")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(EXPERIMENTS)))
def test_experiment_says_purpose_command_and_time(path: Path) -> None:
    header = re.match(r"(#.*\n)+", path.read_text(encoding="utf-8"))
    assert header is not None
    lines = header.group(0).splitlines()
    assert re.match(r"# [A-Z]\w+.*[.]$", lines[0]), "the first line says what it is for"
    command = "bench" if path.parent.name == "benchmarks" else "run"
    assert f"collm {command} {path.relative_to(ROOT)}" in header.group(0)
    assert "# Time:" in header.group(0)
    assert "# Data:" in header.group(0)


def test_no_experiment_names_a_location() -> None:
    lines = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in FILES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if re.search(r"\bpath:", line) and not line.startswith("#")
    ]
    assert lines == []


def test_names_are_those_of_the_files() -> None:
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        (name,) = re.findall(r"^name: (\S+)$", text, flags=re.MULTILINE)
        assert name.startswith(path.stem)
