"""`collm data describe` and `collm data check` on files with planted leaks, through the command line."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pytest
from generated import call

N_USERS, N_ITEMS, N_EACH = 20, 60, 20
START = 1_600_000_000
SPEC = """
name: shop
dataset:
  name: files
  interactions: sales.csv
  items: shop.csv
  columns: {user: user, item: item, rating: stars, timestamp: time, title: title, split: part}
  label: {from: rating, positive_above: 3}
  split: {by: column}
  duplicates: keep-all
history: {visibility: all}
encoder: {name: mf-bias, fit: {epochs: 2}}
evaluate: {resamples: 20}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Writes clean files: a split by time, one row per pair and second."""
    folder = tmp_path_factory.mktemp("shop")
    generator = random.Random(0)
    rows = []
    for user in range(N_USERS):
        items = generator.sample(range(N_ITEMS), N_EACH)
        for place, item in enumerate(items):
            # Users take turns, so that the splits are periods.
            time = START + place * 1_000 + user
            part = "train" if place < 14 else "valid" if place < 17 else "test"
            rows.append([f"u{user}", item, generator.randrange(1, 6), time, part])
    last = max(row[3] for row in rows if row[0] == "u0")
    (own,) = [row for row in rows if row[0] == "u0" and row[3] == last]
    # Planted: the last test row of u0 again among the training rows, and a favourite of the same second in its history.
    rows.append([own[0], own[1], 5, START + 5, "train"])
    free = next(item for item in range(N_ITEMS) if all(row[:2] != ["u0", item] for row in rows))
    rows.append(["u0", free, 5, last, ""])
    # The history keeps the order of the file in one second.
    rows.sort(key=lambda row: (row[3], row[:2] == own[:2]))
    with (folder / "sales.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["user", "item", "stars", "time", "part"], *rows])
    titles = [[item, "Twice" if item < 2 else f"Thing {item} <b>"] for item in range(N_ITEMS)]
    with (folder / "shop.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["item", "title"], *titles])
    (folder / "shop.yaml").write_text(SPEC, encoding="utf-8")
    (folder / "suite.yaml").write_text(
        "name: both\nbase:"
        + SPEC.replace("\n", "\n  ")
        + "\nruns:\n  a: {}\n  b: {history.visibility: strictly-earlier}\n",
        encoding="utf-8",
    )
    return folder


def test_planted_leaks_are_found_and_measured_without(folder: Path) -> None:
    done = call(folder, "data", "check", "shop.yaml", "--json")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["schema"] == 1
    assert content["rows"] == {"valid": 3 * N_USERS, "test": 3 * N_USERS}
    leaks = {
        each["name"]: each["splits"]["test"]["rows"]
        for each in content["checks"]
        if each["kind"] == "leak" and each["found"]
    }
    assert leaks == {"target-in-history": 1, "same-second": 1, "repeated-pair": 1}
    (titles,) = [each for each in content["checks"] if each["name"] == "similar-title"]
    assert titles["found"]
    measured = content["measured"]["test"]
    assert measured["all"]["rows"] == 3 * N_USERS
    assert measured["repeated-pair"]["rows"] == 3 * N_USERS - 1


def test_protocol_fields_mend_what_they_name(folder: Path) -> None:
    done = call(folder, "data", "check", "shop.yaml", "--json", "--set", "history.visibility=strictly-earlier")
    found = {each["name"]: each["found"] for each in json.loads(done.stdout)["checks"]}
    assert not found["same-second"]
    assert not found["target-in-history"]
    once = call(folder, "data", "check", "shop.yaml", "--json", "--set", "dataset.duplicates=keep-last")
    assert not {each["name"]: each["found"] for each in json.loads(once.stdout)["checks"]}["repeated-pair"]


def test_limits_decide_the_exit_code(folder: Path) -> None:
    refused = call(folder, "data", "check", "shop.yaml", "--fail-on", "leaks")
    assert refused.returncode == 1
    assert "--fail-on: target-in-history 1.7% (allowed 0.0%)" in refused.stderr
    assert "`history.visibility: strictly-earlier`" in refused.stdout
    assert call(folder, "data", "check", "shop.yaml", "--fail-on", "leaks:0.05").returncode == 0
    unknown = call(folder, "data", "check", "shop.yaml", "--fail-on", "leeks")
    assert unknown.returncode == 2
    assert "no check 'leeks'; there are: target-in-history" in unknown.stderr


def test_a_limit_on_what_cannot_be_known_is_an_error(folder: Path) -> None:
    without = ["--set", "dataset.columns.timestamp=null", "--resamples", "0"]
    done = call(folder, "data", "check", "shop.yaml", *without, "--fail-on", "time-overlap")
    assert done.returncode == 1
    assert "--fail-on: time-overlap cannot be known: the data has no times" in done.stderr
    assert "unknown: time-overlap: the data has no times" in done.stdout


def test_each_finding_names_what_mends_it(folder: Path) -> None:
    content = json.loads(call(folder, "data", "check", "shop.yaml", "--json", "--resamples", "0").stdout)
    for each in content["checks"]:
        assert set(each) == {"name", "kind", "meaning", "fix", "found", "splits", "details"}
        assert each["fix"]
    assert content["resamples"] == 0
    auc = content["measured"]["test"]["all"]["metrics"]["auc"]
    assert auc["value"] is not None
    assert auc["low"] is None


def test_tables_fit_eighty_columns(folder: Path) -> None:
    for name in ("check", "describe"):
        table = call(folder, "data", name, "shop.yaml")
        lines = [line.rstrip() for line in table.stdout.splitlines()]
        # What appears in columns; sentences wrap by themselves.
        columns = [line for line in lines if line.startswith(" ") and "fix: " not in line]
        assert len(columns) > 10
        assert max(map(len, columns)) <= 80, max(columns, key=len)
        assert not any("\N{HORIZONTAL ELLIPSIS}" in line for line in lines)


def test_a_finished_runs_scores(folder: Path) -> None:
    made = call(folder, "run", "shop.yaml")
    assert made.returncode == 0, made.stderr
    (run,) = (path.name for path in (folder / "runs").glob("shop-*"))
    done = call(folder, "data", "check", "shop.yaml", "--run", run, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["scores"] == f"run {run}"


def test_describing(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    done = call(folder, "data", "describe", "shop.yaml", "--json", "--picture", "data.svg")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert (content["schema"], content["longest_prompts"]) == (1, None)
    splits = content["splits"]
    assert {name: each["rows"] for name, each in splits.items()} == {
        "train": 14 * N_USERS + 1,
        "valid": 3 * N_USERS,
        "test": 3 * N_USERS,
    }
    assert (folder / "data.svg").read_text(encoding="utf-8").lstrip().startswith("<?xml")
    table = call(folder, "data", "describe", "suite.yaml", "--key", "b")
    assert table.returncode == 0, table.stderr
    assert "history strictly-earlier" in table.stdout


def test_longest_prompts_of_a_spec_with_a_language_model(folder: Path) -> None:
    sections = "backbone: {name: tiny}\nprompt: {name: movie}\ntuning: {name: text-only}\n"
    without_encoder = SPEC.replace("encoder: {name: mf-bias, fit: {epochs: 2}}\n", sections)
    (folder / "asks.yaml").write_text(without_encoder, encoding="utf-8")
    content = json.loads(call(folder, "data", "describe", "asks.yaml", "--json", "--longest", "2").stdout)
    first, second = content["longest_prompts"]
    assert first["tokens"] >= second["tokens"] > 0
    assert first["characters"] == len(first["text"])
    shown = call(folder, "data", "describe", "asks.yaml", "--longest", "1").stdout
    assert f"collm prompt asks.yaml --row {first['row']}" in shown
    asked = call(folder, "prompt", "asks.yaml", "--row", str(first["row"]))
    assert asked.returncode == 0, asked.stderr
    assert first["text"] in asked.stdout


def test_wrong_options_are_seen_before_any_work(folder: Path) -> None:
    for arguments, message in (
        (("describe", "shop.yaml", "--picture", "data.jpg"), "ending '.jpg' is unknown; use .png, .svg, .pdf"),
        (("check", "shop.yaml", "--floor", "nope"), "--floor nope: no floor of that name; there are: bias-logistic"),
        (("check", "shop.yaml", "--run", "nope"), "nope: not a run folder here or in runs"),
        (("check", "shop.yaml", "--key", "a"), "--key a: this file is one spec, not a suite"),
    ):
        done = call(folder, "data", *arguments)
        assert done.returncode == 2, done.stderr
        assert message in done.stderr
        assert done.stdout == ""


def test_missing_files_are_named(folder: Path) -> None:
    for name in ("check", "describe"):
        done = call(folder, "data", name, "shop.yaml", "--set", "dataset.interactions=gone.csv")
        assert done.returncode == 2
        assert "dataset.interactions: '" in done.stderr
        assert "gone.csv': no such file" in done.stderr
        assert "Traceback" not in done.stderr


def test_wrong_input_is_one_located_error(folder: Path) -> None:
    for name in ("check", "describe"):
        gone = call(folder, "data", name, "gone.yaml")
        assert gone.returncode == 2
        assert "gone.yaml: no such file" in gone.stderr
        wrong = call(folder, "data", name, "shop.yaml", "--set", "dataset.colums=1")
        assert wrong.returncode == 2
        assert "unknown field 'colums'" in wrong.stderr
        key = call(folder, "data", name, "suite.yaml", "--key", "c")
        assert key.returncode == 2
        assert "c" in key.stderr
        assert "Traceback" not in gone.stderr + wrong.stderr + key.stderr
