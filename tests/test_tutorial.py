"""The tutorial and the notebook do what they say, on generated files and the tiny language model."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import polars as pl

DOCS = Path(__file__).resolve().parents[1] / "docs"
N_USERS, N_ITEMS, ROWS = 40, 60, 30


def write_files(folder: Path) -> None:
    """Writes ratings and titles with the columns of the tutorial; each user's rows are minutes apart."""
    ratings = ["userId,movieId,rating,timestamp"]
    for user in range(1, N_USERS + 1):
        for place in range(ROWS):
            item = (user * 7 + place * 11) % N_ITEMS + 1
            stars = 1 + (item * 3 + user) % 5
            ratings.append(f"{user},{item},{stars}.0,{964_000_000 + user * 90_000 + place * 60}")
    titles = ["movieId,title,genres", *(f"{item},Film {item} (1994),Drama" for item in range(1, N_ITEMS + 1))]
    (folder / "ratings.csv").write_text("\n".join(ratings) + "\n", encoding="utf-8")
    (folder / "movies.csv").write_text("\n".join(titles) + "\n", encoding="utf-8")


def blocks(text: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "COLLM_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}


def test_commands_of_the_tutorial_work_in_their_order(tmp_path: Path) -> None:
    write_files(tmp_path)
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8").replace("smollm2-135m", "tiny")
    (suite,) = blocks(text, "yaml spec")
    (tmp_path / "films.yaml").write_text(suite, encoding="utf-8")
    script = ["set -e", f'collm() {{ "{sys.executable}" -m collm "$@"; }}', *blocks(text, "bash run")]
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--- hybrid ---" in done.stdout
    assert (tmp_path / "report.html").is_file()
    written = (tmp_path / "ratings.yaml").read_text(encoding="utf-8")
    (shown,) = blocks(text, "yaml")
    for line in shown.splitlines():
        assert line.partition("#")[0].rstrip() in written
    # Nothing of the table is missing: each run of the suite is a row of it.
    for method in ("item-mean", "item-user-mean", "bias-logistic", "mf-bias", "text-only", "collm"):
        assert re.search(rf"^ {method} +0\.\d+ \[", done.stdout, flags=re.MULTILINE), method


def code_cells() -> list[str]:
    notebook = json.loads((DOCS / "tutorial.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["metadata"]["kernelspec"]["language"]) == (4, "python")
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_notebook_runs_without_a_network(tmp_path: Path) -> None:
    (tmp_path / "cells.py").write_text("\n\n".join(code_cells()), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "cells.py"],
        cwd=tmp_path,
        env={**environment(tmp_path), "https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "[True, True, True]" in done.stdout
    assert "did you mean 'embedding_size'?" in done.stdout


def test_notebook_holds_its_output() -> None:
    notebook = json.loads((DOCS / "tutorial.ipynb").read_text(encoding="utf-8"))
    printing = [
        cell for cell in notebook["cells"] if cell["cell_type"] == "code" and "print(" in "".join(cell["source"])
    ]
    assert printing
    assert all(cell["outputs"] for cell in printing)
    assert all(output["output_type"] == "stream" for cell in printing for output in cell["outputs"])


def test_generated_files_have_what_the_tutorial_needs(tmp_path: Path) -> None:
    write_files(tmp_path)
    frame = pl.read_csv(tmp_path / "ratings.csv")
    assert frame.height == N_USERS * ROWS
    assert frame.group_by("userId").agg((pl.col("rating") > 3).n_unique().alias("labels"))["labels"].min() == 2
