"""Somebody's own files through the command line: guessed, validated, run; damaged rows are listed and never lost."""

from __future__ import annotations

import csv
import gzip
import json
import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from generated import call

HEADER = ("customer", "product", "stars", "bought at")
N_ROWS = 24 * 15
SETTINGS = ("--set", "evaluate.resamples=20", "--set", "encoder.fit.epochs=3")
BAD = 'c1,5\nc2,7,abc,1600000000000\nc3,,4,1600000000000\nc4,9,4,17\n"c5,3,4,1600000000000\nc6,77,4,1600000000000\n'
N_BAD = 5


def rows() -> list[tuple[Any, ...]]:
    generator = random.Random(3)
    made = []
    for user in range(24):
        moment = 1_600_000_000_000 + generator.randrange(10**9)
        for item in generator.sample(range(40), 15):
            moment += generator.randrange(1, 10**8)
            stars = min(5, max(1, round(generator.gauss(3.5 + (item % 5 - 2) / 2, 1))))
            made.append((f"c{user}", item, stars, moment))
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with (tmp_path / "sales.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([HEADER, *rows()])
    with (tmp_path / "shop.csv").open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, delimiter=";").writerows(
            [("no", "label"), *((item, f'The "{item}"; best') for item in range(40))]
        )
    return tmp_path


def prepared(folder: Path, runs: str) -> Path:
    (manifest,) = (folder / runs / "stages").glob("prepare_data-*/manifest.json")
    return manifest.parent


def test_two_files_become_a_spec_and_a_result(folder: Path) -> None:
    made = call(folder, "data", "init", "sales.csv", "shop.csv", "--json")
    assert made.returncode == 0, made.stderr
    guess = json.loads(made.stdout)
    assert {role: each["column"] for role, each in guess["columns"].items()} == {
        "user": "customer",
        "item": "product",
        "rating": "stars",
        "timestamp": "bought at",
        "title": "label",
        "items_key": "no",
    }
    assert guess["positive_above"] == 3
    again = call(folder, "data", "init", "sales.csv", "shop.csv")
    assert again.returncode == 2
    assert "sales.yaml: already exists" in again.stderr
    assert call(folder, "validate", "sales.yaml").returncode == 0
    done = call(folder, "run", "sales.yaml", *SETTINGS, "--json")
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)["counts"]
    assert sum(counts[split] for split in ("train", "valid", "test")) == N_ROWS
    assert (counts["users"], counts["items"]) == (24, 40)
    data = prepared(folder, "runs")
    assert "timestamps read as milliseconds since 1970" in json.loads((data / "manifest.json").read_text())["notes"]
    titles = dict(pl.read_parquet(data / "items.parquet").select("id", "title").iter_rows())
    assert titles["7"] == 'The "7"; best'
    table = pl.read_parquet(data / "interactions.parquet")
    assert sorted(table["timestamp"]) == sorted(moment // 1000 for _, _, _, moment in rows())
    assert table["label"].sum() == sum(stars > 3 for _, _, stars, _ in rows())


def test_every_format_gives_the_same_data(folder: Path) -> None:
    assert call(folder, "data", "init", "sales.csv").returncode == 0
    frame = pl.DataFrame(rows(), schema=HEADER, orient="row")
    frame.write_parquet(folder / "sales.parquet")
    with gzip.open(folder / "sales.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in frame.iter_rows(named=True))
    frame.write_csv(folder / "sales.tsv", separator="\t")
    found = {}
    for name in ("sales.csv", "sales.parquet", "sales.jsonl.gz", "sales.tsv"):
        runs = f"runs-{name}"
        settings = ("--set", f"dataset.interactions={name}", *SETTINGS, "--runs-dir", runs)
        done = call(folder, "run", "sales.yaml", *settings)
        assert done.returncode == 0, done.stderr
        # The row is its line in the file, which a header moves by one.
        found[name] = pl.read_parquet(prepared(folder, runs) / "interactions.parquet").drop("row")
    for name, table in found.items():
        assert table.equals(found["sales.csv"]), name


def test_damaged_rows_stop_the_run_and_are_listed(folder: Path) -> None:
    assert call(folder, "data", "init", "sales.csv").returncode == 0
    with (folder / "sales.csv").open("a", encoding="utf-8") as file:
        file.write(BAD)
    refused = call(folder, "run", "sales.yaml", *SETTINGS)
    assert refused.returncode == 1
    assert f"{N_BAD} bad rows, dataset.max_bad_rows allows 0" in refused.stderr
    assert f"set dataset.max_bad_rows: {N_BAD} to go on without them" in refused.stderr
    (listed,) = (folder / "runs" / "quarantine").glob("*.csv")
    assert str(listed.relative_to(folder)) in refused.stderr
    found = dict(pl.read_csv(listed).select("line", "reason").iter_rows())
    first = N_ROWS + 2
    assert found == {
        first: "too few fields",
        first + 1: "rating is not a number",
        first + 2: "item is missing",
        first + 3: "timestamp lies before 1990 or after 2100",
        first + 4: "a quote is not closed",
    }
    allowed = call(folder, "run", "sales.yaml", *SETTINGS, "--set", f"dataset.max_bad_rows={N_BAD}")
    assert allowed.returncode == 0, allowed.stderr
    assert f"{N_BAD} bad rows left out" in allowed.stdout + allowed.stderr
    kept = pl.read_csv(prepared(folder, "runs") / "quarantine.csv")
    assert kept["line"].to_list() == pl.read_csv(listed)["line"].to_list()
    assert pl.read_parquet(prepared(folder, "runs") / "interactions.parquet").height == N_ROWS + 1


def test_wrong_names_and_rules_are_located(folder: Path) -> None:
    assert call(folder, "data", "init", "sales.csv").returncode == 0
    spec = folder / "sales.yaml"
    content = yaml.safe_load(spec.read_text(encoding="utf-8"))
    content["dataset"]["columns"]["user"] = "custommer"
    spec.write_text(yaml.safe_dump(content), encoding="utf-8")
    wrong = call(folder, "run", "sales.yaml")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("sales.yaml:2:3: dataset: ")
    assert "dataset.columns.user: no column 'custommer' (did you mean 'customer'?)" in wrong.stderr
    content["dataset"]["columns"] |= {"user": "customer", "timestamp": None}
    spec.write_text(yaml.safe_dump(content), encoding="utf-8")
    timeless = call(folder, "validate", "sales.yaml")
    assert timeless.returncode == 2
    assert "{by: quantiles} needs columns.timestamp" in timeless.stderr
    assert "sales.yaml:" in timeless.stderr
    content["dataset"]["split"] = {"by": "random"}
    spec.write_text(yaml.safe_dump(content), encoding="utf-8")
    warned = call(folder, "validate", "sales.yaml")
    assert warned.returncode == 0
    assert "history follows the order of the file" in warned.stderr


LANGUAGE_MODEL = """\
name: lm
dataset:
  name: files
  interactions: sales.csv
  items: shop.csv
  columns: {user: customer, item: product, rating: stars, timestamp: bought at, title: label, items_key: "no"}
  label: {from: rating, positive_above: 3}
  split: {by: quantiles}
backbone: {name: tiny}
prompt: {name: movie}
tuning: {name: none}
evaluate: {splits: [test], slices: [all], metrics: [auc]}
"""


def test_shortened_histories_are_said_under_the_table(folder: Path) -> None:
    (folder / "lm.yaml").write_text(LANGUAGE_MODEL)
    whole = call(folder, "run", "lm.yaml", "--json")
    assert whole.returncode == 0, whole.stderr
    assert not any("shortened" in note for note in json.loads(whole.stdout)["notes"])
    longest = json.loads(call(folder, "data", "describe", "lm.yaml", "--json").stdout)["longest_prompts"][0]["tokens"]
    for _ in range(2):  # the second time nothing is scored again
        cut = call(folder, "run", "lm.yaml", "--json", "--set", f"backbone.max_prompt_tokens={longest - 1}")
        assert cut.returncode == 0, cut.stderr
        (note,) = [note for note in json.loads(cut.stdout)["notes"] if "shortened" in note]
        assert f"more than {longest - 1:,} tokens, so the oldest are left out" in note
        n = int(note.split("The histories of ")[1].split()[0])
        assert 1 <= n <= json.loads(cut.stdout)["counts"]["test"]


def test_a_title_that_does_not_fit_is_named_as_in_the_file_and_can_be_cut(folder: Path) -> None:
    (folder / "lm.yaml").write_text(LANGUAGE_MODEL)
    text = (folder / "shop.csv").read_text(encoding="utf-8-sig")
    _, newest, *_ = max(rows(), key=lambda row: row[3])  # surely in the test split
    (folder / "shop.csv").write_text(text.replace(f'""{newest}""', "long " * 900), encoding="utf-8")
    refused = call(folder, "run", "lm.yaml")
    assert refused.returncode == 1
    assert f"the question for item '{newest}' ('The long long" in refused.stderr
    assert "dataset.longest_title cuts titles" in refused.stderr
    done = call(folder, "run", "lm.yaml", "--json", "--set", "dataset.longest_title=60")
    assert done.returncode == 0, done.stderr
    assert "1 titles of more than 60 characters are cut" in json.loads(done.stdout)["notes"]
