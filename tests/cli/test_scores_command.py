"""`collm scores`: a run's predictions on the terminal and as CSV."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from collm.cli.main import call
from collm.runs.records import RunResults
from collm.runs.store import RunFolder

IDS = ["007", "a,b", 'x"y', "=1+1", "ü\nv", " "]
RESULTS = {
    "schema": 1, "name": "r", "run": "r", "spec_hash": "abc", "seed": 0, "profile": "recommended",
    "metrics": {"test": {"all": {"auc": {"value": 0.75, "n": 5}}}},
}  # fmt: skip
LOGITS = np.random.default_rng(0).normal(size=12).astype(np.float32)
FRAME = pl.DataFrame(
    {
        "split": ["valid"] * 6 + ["test"] * 6,
        "row": pl.Series([*range(100, 106)] * 2, dtype=pl.Int64),
        "user": IDS * 2,
        "item": IDS[::-1] * 2,
        "label": pl.Series([0, 1] * 6, dtype=pl.Int8),
        "logit": LOGITS,
        "score": 1 / (1 + np.exp(-LOGITS.astype(np.float64))),
        "user_train_rows": pl.Series([3] * 12, dtype=pl.Int64),
        "item_train_rows": pl.Series([0] * 12, dtype=pl.Int64),
        "all": [True] * 12,
    }
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = RunFolder(tmp_path, "r", "abc")
    folder.append_event("run_started")
    folder.write_spec({"name": "r"})
    folder.write_results(RunResults.check(RESULTS, place="results.json"))
    FRAME.write_parquet(folder.path / "scores.parquet")
    # Another order of rows: each value must come to its own row all the same.
    floors = FRAME.select("split", "row", pl.col("score").truediv(2).alias("item-mean"))
    floors.reverse().write_parquet(folder.path / "floors.parquet")
    folder.write_done()
    return folder.path


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_every_row_and_digit_comes_back(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "out" / "p.csv"
    assert call(["scores", str(run), "-o", str(file)]) == 0
    rows = rows_of(file.read_bytes().decode())
    assert list(rows[0]) == FRAME.columns
    assert [row["user"] for row in rows] == FRAME["user"].to_list()
    assert [float(row["score"]) for row in rows] == FRAME["score"].to_list()
    assert [np.float32(row["logit"]) for row in rows] == LOGITS.tolist()
    assert [int(row["row"]) for row in rows] == FRAME["row"].to_list()


def test_a_split_and_floors_on_stdout(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["scores", run.name, "--runs-dir", str(run.parent), "--split", "test", "--floors", "--csv"]) == 0
    rows = rows_of(capsys.readouterr().out)
    assert [float(row["floor:item-mean"]) * 2 for row in rows] == FRAME["score"].to_list()[6:]
    assert {row["split"] for row in rows} == {"test"}


def test_without_csv_some_rows_are_shown_and_all_are_counted(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["scores", str(run)]) == 0
    shown = capsys.readouterr().out
    assert "10 of 12 rows; --csv prints all" in shown
    assert f"{FRAME['score'][9]:.4f}" in shown
    assert f"{FRAME['score'][11]:.4f}" not in shown


def test_an_ensemble_has_no_logits(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    FRAME.with_columns(logit=pl.lit(None, dtype=pl.Float32)).write_parquet(run / "scores.parquet")
    RunFolder.at(run).write_done()
    assert call(["scores", str(run), "--csv"]) == 0
    assert {row["logit"] for row in rows_of(capsys.readouterr().out)} == {""}


def test_control_characters_reach_a_file_only(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    FRAME.with_columns(user=pl.lit("\x1b[2J")).write_parquet(run / "scores.parquet")
    RunFolder.at(run).write_done()
    assert call(["scores", str(run), "--csv", "-o", str(tmp_path / "p.csv")]) == 0
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out
    assert "ids hold control characters" in captured.err
    assert {row["user"] for row in rows_of((tmp_path / "p.csv").read_text())} == {"\x1b[2J"}


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["--split", "tst"], "it has valid, test", 2),
        (["--floors"], "has no floors.parquet", 2),
    ],
)
def test_what_is_not_there_is_told(run: Path, arguments: list[str], said: str, code: int, capsys) -> None:
    (run / "floors.parquet").unlink()
    RunFolder.at(run).write_done()
    assert call(["scores", str(run), *arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err


def test_damaged_and_unfinished_runs_show_nothing(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = (run / "scores.parquet").read_bytes()
    (run / "scores.parquet").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert call(["scores", str(run), "--csv"]) == 1
    assert "scores.parquet: damaged" in capsys.readouterr().err
    (run / "done").unlink()
    assert call(["scores", str(run), "--csv"]) == 1
    assert "not finished" in capsys.readouterr().err
