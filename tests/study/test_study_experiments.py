"""Every shipped study resolves at each of its values, and the paper's grids are the paper's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from collm.registry import Registry
from collm.study.check import CheckedStudy, check_study
from collm.study.study_file import read_study

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "experiments" / "studies").glob("*.yaml"))
PAPER = ROOT / "collm" / "report" / "paper_numbers.yaml"


def checked(path: Path, registry: Registry, folder: Path) -> CheckedStudy:
    return check_study(read_study(path, ["dataset.path=somewhere"], registry, cwd=folder, runs_dir=folder), registry)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_study_resolves(path: Path, installed: Registry, tmp_path: Path) -> None:
    study = checked(path, installed, tmp_path)
    assert study.file.name == path.stem
    assert study.trial(study.file.space.first()).dataset.path == tmp_path / "somewhere"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_study_says_purpose_command_data_and_time(path: Path) -> None:
    header = re.match(r"(#.*\n)+", path.read_text(encoding="utf-8"))
    assert header is not None
    assert re.match(r"# [A-Z].*[.]$", header.group(0).splitlines()[0])
    assert f"collm study {path.relative_to(ROOT)}" in header.group(0)
    assert "# Data:" in header.group(0)
    assert "# Time:" in header.group(0)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_grids_are_those_of_the_paper(path: Path, installed: Registry, tmp_path: Path) -> None:
    numbers = yaml.safe_load(PAPER.read_text(encoding="utf-8"))["hyperparameters"]
    # The paper writes the width of the output, 1, too.
    layers = [str(each[:-1]) for each in numbers["din_hidden_grid"]]
    grids = {
        "learning_rate": numbers["learning_rate_grid"],
        "embedding_size": numbers["embedding_size_grid"],
        "weight_decay": numbers["weight_decay_grid"],
        "dropout": numbers["din_dropout_grid"],
        "layers": layers,
    }
    for parameter in checked(path, installed, tmp_path).file.space.all():
        field = parameter.parts[-1]
        if field in grids and parameter.choices:
            assert [choice.label for choice in parameter.choices] == grids[field]
