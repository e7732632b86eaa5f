"""The studies in docs/studies.md are checked like a user's, by the reader and by the editor's schema."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import jsonschema
import pytest
import yaml

from collm.registry import Registry
from collm.spec.schema import json_schema
from collm.study.check import check_study
from collm.study.study_file import read_study

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml study\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
SHIPPED = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "experiments" / "studies").glob("*.yaml"))]


@pytest.mark.parametrize("text", BLOCKS, ids=lambda text: text.splitlines()[0].split()[1])
def test_study_in_docs_resolves(text: str, installed: Registry, tmp_path: Path) -> None:
    shutil.copy(ROOT / "experiments" / "paper" / "mf-bias.yaml", tmp_path)
    path = tmp_path / "study.yaml"
    path.write_text(text, encoding="utf-8")
    overrides = ["dataset.path=somewhere"]
    assert check_study(read_study(path, overrides, installed, cwd=tmp_path, runs_dir=tmp_path), installed)


@pytest.fixture(scope="module")
def schema(installed: Registry) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json_schema(installed))


@pytest.mark.parametrize("text", [*BLOCKS, *SHIPPED])
def test_the_schema_accepts_every_study(text: str, schema: jsonschema.Draft202012Validator) -> None:
    schema.validate(yaml.safe_load(text))


def test_the_schema_refuses_an_unknown_field(schema: jsonschema.Draft202012Validator) -> None:
    content = yaml.safe_load(BLOCKS[0].replace("trials:", "trails:"))
    with pytest.raises(jsonschema.ValidationError, match="trails"):
        schema.validate(content)
