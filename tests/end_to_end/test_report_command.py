"""Suites with ensembles, and `collm report` on them, through the real command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from generated import call, write_data

SUITE = """\
name: table
base:
  name: base
  dataset: {name: movielens-small, path: data}
  encoder: {name: mf-bias, embedding_size: 4, fit: {epochs: 3, batch_size: 64}}
  evaluate: {resamples: 50}
runs:
  mf-bias: {}
  item-knn: {encoder: {name: item-knn}}
seeds: [0, 1]
ensembles: {mf-bias+item-knn: [mf-bias, item-knn]}
"""

EDITED = """\
name: edited
dataset: {name: movielens-small, path: edited}
encoder: {name: mf-bias, embedding_size: 4, fit: {epochs: 1, batch_size: 64}}
evaluate: {resamples: 50}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("reports")
    write_data(root / "data")
    (root / "table.yaml").write_text(SUITE, encoding="utf-8")
    return root


def test_a_suite_with_an_ensemble_and_its_report(folder: Path) -> None:
    done = call(folder, "run", "table.yaml", "--json")
    assert done.returncode == 0, done.stderr
    runs = json.loads(done.stdout)["runs"]
    assert [(run["run"], run["seed"]) for run in runs] == [
        (name, seed) for name in ("mf-bias", "item-knn", "mf-bias+item-knn") for seed in (0, 1)
    ]
    folders = {(run["run"], run["seed"]): folder / run["run_dir"] for run in runs}
    scores = {key: pl.read_parquet(path / "scores.parquet") for key, path in folders.items()}
    expected = (scores["mf-bias", 1]["score"] + scores["item-knn", 1]["score"]) / 2
    mixed = scores["mf-bias+item-knn", 1]
    assert (mixed["score"] - expected).abs().max() < 1e-12
    assert mixed["logit"].is_null().all()
    floors = pl.read_parquet(folders["mf-bias", 0] / "floors.parquet")
    assert floors.height == mixed.height
    assert {"item-mean", "item-user-mean", "bias-logistic"} <= set(floors.columns)

    again = call(folder, "run", "table.yaml", "--json")
    assert all(run["reused"] for run in json.loads(again.stdout)["runs"])

    files = ("--html", "out/r.html", "--csv", "r.csv", "--markdown", "r.md", "--latex", "r.tex")
    report = call(folder, "report", "table.yaml", *files)
    assert report.returncode == 0, report.stderr
    assert "wrote out/r.html" in report.stderr
    assert "mf-bias+item-knn" in report.stdout
    shown, said = (" ".join(text.split()) for text in (call(folder, "run", "table.yaml").stdout, report.stdout))
    sentence = shown.split("in words: ")[1]
    assert "has the best AUC of 3 methods" in sentence
    assert sentence in said
    rows = pl.read_csv(folder / "r.csv").filter(pl.col("slice") == "all", pl.col("metric") == "auc")
    values = [run["metrics"]["test"]["all"]["auc"]["value"] for run in runs if run["run"] == "mf-bias"]
    assert rows.filter(pl.col("method") == "mf-bias")["value"].item() == pytest.approx(sum(values) / 2)
    assert (folder / "out" / "r.html").read_text().startswith("<!doctype html>")

    other = call(folder, "report", "table.yaml", "--protocol", "reference", "--metrics", "auc,logloss")
    assert other.returncode == 0, other.stderr
    assert "logloss" in other.stdout

    metrics = json.loads((folders["mf-bias", 0] / "results.json").read_text())["floors"]["test"]["all"]
    (shown,) = [line for line in report.stdout.splitlines() if line.strip().startswith("bias-logistic")][:1]
    assert f"{metrics['bias-logistic']['auc']['value']:.4f}" in shown


def test_seeds_of_a_limited_suite_score_the_same_rows(folder: Path) -> None:
    limits = ("--set", "dataset.limit.test=40", "--set", "dataset.limit.valid=30", "--runs-dir", "limited")
    done = call(folder, "run", "table.yaml", *limits, "--json")
    assert done.returncode == 0, done.stderr
    frames = [pl.read_parquet(folder / run["run_dir"] / "scores.parquet") for run in json.loads(done.stdout)["runs"]]
    keys = ["split", "row", "user", "item", "label"]
    assert all(frame.select(keys).equals(frames[0].select(keys)) for frame in frames)
    report = call(folder, "report", "table.yaml", *limits)
    assert report.returncode == 0, report.stderr
    assert "sets of rows" not in report.stdout
    assert "n=2 (0, 1)" in report.stdout
    # Another draw is another set of rows: a block of its own, and no number that mixes both.
    other = ("--set", "dataset.limit.seed=5", *limits)
    assert call(folder, "run", "table.yaml", *other, "--json").returncode == 0
    runs = sorted(path.name for path in (folder / "limited").iterdir() if path.name.startswith("table-mf-bias-"))
    apart = call(folder, "report", *runs, "--runs-dir", "limited", "--csv", "apart.csv")
    assert apart.returncode == 0, apart.stderr
    assert "2 sets of rows" in apart.stdout
    rows = pl.read_csv(folder / "apart.csv")
    assert set(rows["rows"]) == {"A", "B"}
    assert rows.filter(pl.col("floor"))["rows"].n_unique() == 2


def test_two_runs_are_compared(folder: Path) -> None:
    first, second = sorted(path.name for path in (folder / "runs").iterdir() if path.name.startswith("table-mf-bias-"))[
        :2
    ]
    found = json.loads(call(folder, "runs", "diff", first, second, "--json").stdout)
    assert found["settings"]["seed"] in ([0, 1], [1, 0])
    record = found["metrics"]["test"]["auc"]
    assert record["difference"] == pytest.approx(record["second"] - record["first"])
    assert record["low"] <= record["difference"] <= record["high"]
    assert "second - first" in call(folder, "runs", "diff", first, second).stdout
    listed = json.loads(call(folder, "runs", "--json").stdout)["runs"]
    assert all(run["state"] == "done" and run["mb"] > 0 for run in listed)
    assert "0.0 MB in 0 folders would be freed" in call(folder, "runs", "gc", "--dry-run").stdout


def test_unfinished_and_unknown_runs_are_named(folder: Path) -> None:
    missing = call(folder, "report", "table.yaml", "--runs-dir", "elsewhere")
    assert missing.returncode == 1
    assert "nothing is finished in elsewhere: mf-bias: not run yet" in missing.stderr
    unknown = call(folder, "report", "tabel.yaml")
    assert unknown.returncode == 2
    assert "neither a run folder" in unknown.stderr


def test_one_row_of_a_suite_is_run_and_reported(folder: Path) -> None:
    where = ("--runs-dir", "row")
    done = call(folder, "run", "table.yaml", "--only", "item-knn-seed1", "--json", *where)
    assert done.returncode == 0, done.stderr
    assert "--only: item-knn-seed1; left out of table: 3 runs; ensembles without all members" in done.stderr
    (made,) = json.loads(done.stdout)["runs"]
    assert (made["run"], made["seed"]) == ("item-knn", 1)
    assert [path.name for path in (folder / "row").iterdir() if path.name != "stages"] == [Path(made["run_dir"]).name]

    report = call(folder, "report", "table.yaml", "--only", "item-knn-seed1", "--csv", "row.csv", *where)
    assert report.returncode == 0, report.stderr
    words = " ".join(report.stdout.split())
    assert "left out of table: 3 runs" in words
    assert "p (Holm) is corrected for the pairs shown here alone" in words
    assert set(pl.read_csv(folder / "row.csv").filter(~pl.col("floor"))["method"]) == {"item-knn"}

    whole = call(folder, "run", "table.yaml", "--json", *where)
    runs = json.loads(whole.stdout)["runs"]
    assert [run["run_dir"] for run in runs if run["reused"]] == [made["run_dir"]]
    mixed = call(folder, "report", "table.yaml", "--only", "mf-bias+item-knn", *where)
    assert mixed.returncode == 0, mixed.stderr
    assert "left out of table" not in mixed.stdout

    wrong = call(folder, "report", "table.yaml", "--only", "item-kn", *where)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "did you mean 'item-knn'?" in wrong.stderr
    single = call(folder, "report", made["run_dir"], "--only", "item-knn")
    assert single.returncode == 2
    assert "chooses runs of a suite file" in single.stderr


def test_runs_of_other_data_are_not_said_to_be_alike(folder: Path) -> None:
    shutil.copytree(folder / "data", folder / "edited")
    (folder / "edited.yaml").write_text(EDITED, encoding="utf-8")
    first = json.loads(call(folder, "run", "edited.yaml", "--json").stdout)["run_dir"]
    ratings = folder / "edited" / "ratings.csv"
    rows = ratings.read_text().splitlines()
    user, item, stars, moment = rows[1].split(",")
    rows[1] = ",".join((user, item, "1" if float(stars) > 3 else "5", moment))
    ratings.write_text("\n".join(rows) + "\n")
    second = json.loads(call(folder, "run", "edited.yaml", "--json").stdout)["run_dir"]
    assert first != second
    said = " ".join(call(folder, "runs", "diff", first, second).stdout.split())
    assert "the same settings, but other stages: prepare_data" in said
    again = json.loads(call(folder, "runs", "diff", first, first, "--json").stdout)
    assert (again["settings"], again["stages"]) == ({}, [])
