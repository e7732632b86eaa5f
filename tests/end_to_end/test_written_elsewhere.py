"""A prepared dataset that SQL alone wrote, as docs/large-data.md shows, through the command line to a results table."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from generated import call

PAGE = Path(__file__).resolve().parents[2] / "docs" / "large-data.md"
SUITE = """\
name: elsewhere
base:
  name: elsewhere
  dataset: {name: prepared, path: prepared}
  evaluate: {resamples: 50}
runs:
  mf-bias: {encoder: {name: mf-bias, embedding_size: 8}}
"""


def test_the_page_s_example_runs(tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python example\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (tmp_path / "write.py").write_text(example, encoding="utf-8")
    assert "collm" not in example
    subprocess.run([sys.executable, "write.py"], cwd=tmp_path, check=True)
    (tmp_path / "suite.yaml").write_text(SUITE, encoding="utf-8")
    done = call(tmp_path, "run", "suite.yaml", "--json")
    assert done.returncode == 0, done.stderr
    (run,) = json.loads(done.stdout)["runs"]
    assert run["counts"]["users"] == 60 and run["counts"]["test"] == 400
    assert 0 <= run["metrics"]["test"]["all"]["auc"]["value"] <= 1
    assert set(run["floors"]["test"]["all"]) >= {"item-mean", "item-user-mean"}
    (stage,) = (tmp_path / "runs" / "stages").glob("prepare_data-*")
    assert (stage / "interactions.parquet").samefile(tmp_path / "prepared" / "interactions.parquet")
