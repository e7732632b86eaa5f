"""`collm data init`: what it shows, what it asks, and that a run reads what it wrote."""

from __future__ import annotations

import csv
import json
import random
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from collm.cli.main import call
from collm.component import BuildContext
from collm_files.config import FilesConfig
from collm_files.source import build

START = 1_600_000_000
Rows = list[tuple[Any, ...]]


@pytest.fixture
def rows() -> Rows:
    draw = random.Random(0)
    return [
        (draw.randrange(20), draw.randrange(30), draw.randrange(1, 6), START + n * 40_000 + draw.randrange(9_000))
        for n in range(300)
    ]


@pytest.fixture
def init(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, Path]]:
    """Runs the command in an empty folder; gives its code, all that it printed, and the spec's path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "240")

    def run(*arguments: str) -> tuple[int, str, Path]:
        spec = tmp_path / "spec.yaml"
        code = call(["data", "init", *arguments, "-o", str(spec), "--force"])
        captured = capsys.readouterr()
        return code, captured.out + captured.err, spec

    return run


def write(name: str, header: tuple[str, ...], content: Rows, **form: Any) -> str:
    with Path(name).open("w", newline="", encoding=form.pop("encoding", "utf-8")) as file:
        csv.writer(file, **form).writerows([header, *content])
    return name


def dataset_of(spec: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(spec.read_text())["dataset"]
    return content


def load(spec: Path) -> Any:
    config = dataset_of(spec) | {"interactions": spec.parent / dataset_of(spec)["interactions"]}
    return build(FilesConfig.model_validate(config), context=BuildContext(cache_dir=spec.parent)).load()


HEADER = ("userId", "movieId", "rating", "timestamp")


def test_the_values_are_shown(init: Any, rows: Rows) -> None:
    code, said, spec = init(write("a.csv", HEADER, rows))
    assert code == 0
    shown = ", ".join(f"{value} ({sum(row[2] == value for row in rows)})" for value in range(1, 6))
    assert f"# values looked at: {shown}\n" in spec.read_text()
    assert "1 (" in said
    assert dataset_of(spec)["split"]["by"] == "quantiles"
    assert load(spec).frame.height > 200


def test_zeros_are_proposed_as_not_rated(init: Any, rows: Rows) -> None:
    code, said, spec = init(
        write("a.csv", HEADER, [(*row[:2], row[2] * (n % 3 == 0), row[3]) for n, row in enumerate(rows)])
    )
    assert code == 0
    assert "lies apart from the others (1 to 5) and may mean 'not rated'" in said
    assert dataset_of(spec)["label"] == {"from": "rating", "positive_above": 3, "not_rated": [0]}
    assert any("are left out" in note for note in load(spec).notes)


@pytest.mark.parametrize(
    ("form", "asked", "answer"),
    [
        ("%d/%m/%Y", "`day-first` or `month-first`", "day-first"),
        ("relative", "`relative`", "relative"),
        ("cells", "`spreadsheet-days`", "spreadsheet-days"),
    ],
)
def test_times_that_are_not_clear_are_asked_for(init: Any, rows: Rows, form: str, asked: str, answer: str) -> None:
    def shown(second: int) -> Any:
        if form == "relative":
            return second - START
        if form == "cells":
            return second / 86_400 + 25_569
        day = datetime.fromtimestamp(second, UTC)
        return day.replace(day=1 + day.day % 12).strftime(form)

    path = write("a.csv", HEADER, [(*row[:3], shown(row[3])) for row in rows])
    code, said, spec = init(path)
    assert code == 1
    assert asked in said
    assert "--times" in said
    assert not spec.exists()
    code, said, _ = init(path, "--column", "timestamp=timestamp")
    assert code == 1  # naming the column does not say what it holds
    assert "is named as the times and is" in said
    code, said, spec = init(path, "--times", answer)
    assert code == 0, said
    assert dataset_of(spec)["times"] == answer
    assert dataset_of(spec)["split"]["by"] == "quantiles"
    load(spec)
    code, said, spec = init(path, "--times", "none")
    assert code == 0
    assert "warning: rows are split at random (you said so)" in said
    assert dataset_of(spec)["split"]["by"] == "random"
    assert "timestamp" not in dataset_of(spec)["columns"]


def test_no_times_at_all_are_said_aloud(init: Any, rows: Rows) -> None:
    code, said, spec = init(write("a.csv", HEADER[:3], [row[:3] for row in rows]))
    assert code == 0
    assert "warning: rows are split at random (no column holds times" in said
    code, said, spec = init(write("b.csv", HEADER, [(*row[:3], "2020-01-01") for row in rows]))
    assert code == 0
    assert "too many of them have the same time for a split by time" in said
    assert dataset_of(spec)["split"]["by"] == "random"


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("rating", ("good", "meh"), "'rating' is named like a rating but holds .*good"),
        ("label", (1, 2), "'label' is named like a label but holds 1 "),
        ("label", (-1, 0), "holds -1 .*, 0 "),
        ("plays", (2, 700), "'plays' may count something .*--column rating=plays"),
        ("other", ("x", "y"), "Of a file of positives only .* --positives uniform"),
    ],
)
def test_what_is_no_opinion_is_shown(init: Any, rows: Rows, column: str, values: tuple[Any, Any], message: str) -> None:
    third = 1 if column == "label" and values == (-1, 0) else values[0]
    content = [(*row[:2], third if row[2] == 3 else values[row[2] > 3], row[3]) for row in rows]
    code, said, _ = init(write("a.csv", ("user", "item", column, "timestamp"), content))
    assert code == 1
    assert re.search(message, said), said


def test_positives_alone(init: Any, rows: Rows) -> None:
    path = write("a.csv", ("user", "item", "rating", "ts"), [(*row[:2], 1, row[3]) for row in rows])
    code, said, spec = init(path, "--positives", "popularity")
    assert code == 0, said
    found = dataset_of(spec)
    assert found["label"] == {"from": "positives", "negatives": {"per_positive": 1, "by": "popularity", "seed": 0}}
    assert "rating" not in found["columns"]
    assert found["split"]["by"] == "quantiles"
    code, said, _ = init(path, "--positives", "uniform", "--column", "rating=rating", "--force")
    assert code == 2
    assert "every row is a positive, but --column rating names its label" in said


def test_counts_are_a_rule_of_the_users(init: Any, rows: Rows) -> None:
    path = write("a.csv", ("user", "artist", "plays", "ts"), [(*row[:2], row[2] ** 4, row[3]) for row in rows])
    code, said, spec = init(path, "--column", "rating=plays")
    assert code == 0
    assert "looks like counts of use (implicit feedback): a low count is not a dislike" in said
    assert dataset_of(spec)["label"]["positive_above"] == 81


def test_titles_of_reviews_are_no_titles_of_items(init: Any, rows: Rows) -> None:
    reviews = [
        {
            "rating": float(row[2]),
            "title": f"Great {n}",
            "images": [],
            "user_id": f"U{row[0]}",
            "asin": f"V{row[1]}{n % 3}",
            "parent_asin": f"P{row[1]}",
            "timestamp": row[3] * 1000,
        }
        for n, row in enumerate(rows)
    ]
    Path("reviews.jsonl").write_text("\n".join(map(json.dumps, reviews)))
    code, said, spec = init("reviews.jsonl")
    assert code == 0
    assert "'title' differs between rows of one item" in " ".join(said.replace("│", " ").split())
    columns = dataset_of(spec)["columns"]
    assert columns == {"user": "user_id", "item": "parent_asin", "rating": "rating", "timestamp": "timestamp"}
    assert "timestamps read as milliseconds since 1970" in load(spec).notes
    Path("meta.jsonl").write_text("\n".join(json.dumps({"title": f"T{n}", "parent_asin": f"P{n}"}) for n in range(30)))
    code, _, spec = init("reviews.jsonl", "meta.jsonl")
    assert dataset_of(spec)["columns"]["title"] == "title"
    assert "items_key" not in dataset_of(spec)["columns"]


def test_another_encoding_is_guessed_and_said(init: Any, rows: Rows) -> None:
    path = write("a.csv", HEADER, [(f"é{row[0]}", *row[1:]) for row in rows], encoding="latin-1")
    code, said, spec = init(path)
    assert code == 0
    assert "some lines are not UTF-8 text and are read as cp1252, e.g. 'é" in said
    assert load(spec).user_ids[1].startswith("é")
    assert init(path, "--encoding", "utf-99")[0] == 2


def test_json_has_all_of_it(init: Any, rows: Rows, capsys: pytest.CaptureFixture[str]) -> None:
    write("a.csv", HEADER, [(*row[:2], row[2] * (n % 3 == 0), row[3]) for n, row in enumerate(rows)])
    assert call(["data", "init", "a.csv", "-o", "s.yaml", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["not_rated"] == [0.0]
    assert "0 (" in answer["values"]
    assert any("may mean 'not rated'" in text for text in answer["warnings"])


def test_a_file_of_which_no_row_can_be_used(init: Any) -> None:
    Path("a.csv").write_text("user,item,rating\n1,2\n3\n")
    code, said, _ = init("a.csv")
    assert code == 1
    assert "no row can be used (too few fields: 2); the first line has 3 fields" in said
    Path("b.csv").write_text("user,item,rating\n")
    assert "holds no rows below the line that names its columns" in init("b.csv")[1]
    Path("c.txt").write_text("userIdmovieId\n1\n2\n")
    assert "no known separator (comma, ; tab | :: blanks)" in init("c.txt")[1]
    Path("d.csv").write_text("A1,B1,5.0,1400000000\nA2,B1,3.0,1400000001\n")
    assert "the file has no header line" in init("d.csv")[1]
    named = ["user=column_1", "item=column_2", "rating=column_3"]
    assert init("d.csv", *(each for name in named for each in ("--column", name)))[0] == 0


def test_names_and_values_steer_nothing(init: Any, rows: Rows) -> None:
    hostile = ["[/b] [red]x", "\x1b[2Jboo", "a\u2028b"]
    content = [(*row, hostile[row[1] % 3]) for row in rows]
    code, said, _ = init(write("a.csv", (*HEADER, "title"), content), "--column", "title=title")
    assert code == 0, said
    assert "\x1b" not in said
    assert "[/b]" in said
    words = [(*row[:2], hostile[row[2] % 3], row[3]) for row in rows]
    code, said, _ = init(write("b.csv", HEADER, words))
    assert code == 1
    assert "\x1b" not in said


def test_infinite_ratings_are_shown_and_are_no_numbers(init: Any, rows: Rows) -> None:
    file = write("ratings.csv", HEADER, [*((u, i, r, t) for u, i, r, t in rows), (1, 2, "inf", START)])
    code, printed, _ = init(file)
    assert code == 0 and "inf (1)" in printed and "numbers from 1 to 5" in printed


def test_a_file_of_nested_values_only(init: Any) -> None:
    Path("nested.json").write_text('{"data": {"rows": [{"user": 1, "item": 2, "rating": 3}]}}')
    code, printed, _ = init("nested.json")
    assert code == 1 and "no column of the file holds text, numbers or times" in printed
