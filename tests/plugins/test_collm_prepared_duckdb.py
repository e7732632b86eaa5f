"""`experiments/benchmarks/prepare_with_duckdb.py` beside what `dataset: files` prepares from the same log."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from collm.component import BuildContext
from collm.contracts.data import DatasetConfig, Limit
from collm.data.prepare import prepare
from collm.data.prepared import PreparedData
from collm.data.prepared_files import INTERACTIONS, ITEMS, POSITIVES, USERS
from collm.registry import default_registry
from collm.testing.interactions import LogShape, write_log
from collm_files.config import FilesConfig

pytest.importorskip("duckdb", reason="duckdb is not installed: pip install duckdb")
SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "benchmarks" / "prepare_with_duckdb.py"
N_ROWS = 200_000
HISTORY: Any = SimpleNamespace(visibility="strictly-earlier")


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        yield importlib.import_module(SCRIPT.stem)


def edges(log: pl.DataFrame, *, ids: str) -> pl.DataFrame:
    """Adds what a log may have: ties of a tenth of a day's rows, repeats of a pair then and later, single rows."""
    tied = pl.int_range(pl.len()) % 10 == 0
    days = log.with_columns(pl.when(tied).then(pl.col("timestamp") // 86_400 * 86_400).otherwise("timestamp"))
    again = days.gather_every(50).with_columns(rating=pl.lit(5.0, dtype=pl.Float32))
    later = days.gather_every(70).with_columns(pl.col("timestamp") + 1, rating=pl.lit(0.5, dtype=pl.Float32))
    numbers = range(100)
    alone = days.head(len(numbers)).with_columns(
        user=pl.Series([-1 - number for number in numbers] if ids == "int" else [f"ü'{number}" for number in numbers])
    )
    return pl.concat([days, again, later, alone]).sample(fraction=1.0, shuffle=True, seed=3)


@pytest.fixture(scope="module", params=["int", "text"])
def log(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of three files, whose names are not in the order in which they are written."""
    folder = tmp_path_factory.mktemp(f"log-{request.param}")
    write_log(folder / "generated", LogShape.of_rows(N_ROWS), ids=request.param)
    rows = edges(pl.read_parquet(folder / "generated" / "*.parquet"), ids=request.param)
    (folder / "log").mkdir()
    for name, first, n in (("b", 70_000, 90_000), ("c", 160_000, rows.height), ("a", 0, 70_000)):
        rows.slice(first, n).write_parquet(folder / "log" / f"{name}.parquet", row_group_size=20_000)
    return folder / "log"


@pytest.fixture(scope="module")
def theirs(log: Path, script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """What DuckDB prepares, in blocks of users small enough that there are several, checked by `dataset: prepared`."""
    out = tmp_path_factory.mktemp("out")
    work = script.Work(tuple(sorted(log.glob("*.parquet"))), out, 1.0, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(script, "_BLOCK_ROWS", 30_000)
        script.prepare(work)
    assert not work.scratch.exists()
    config = DatasetConfig(name="prepared", path=work.prepared)
    source = default_registry().get("dataset", "prepared").load_factory()(config, context=BuildContext(out))
    prepare(source, limit=Limit(), history=HISTORY, folder=out / "stage")
    assert (out / "stage" / INTERACTIONS).samefile(work.prepared / INTERACTIONS)
    return PreparedData.open(out / "stage")


@pytest.fixture(scope="module")
def ours(log: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    """What `dataset: files` prepares."""
    out = tmp_path_factory.mktemp("files")
    config = FilesConfig.model_validate(
        {
            "name": "files",
            "interactions": log,
            "columns": {"rating": "rating", "timestamp": "timestamp"},
            "label": {"from": "rating", "positive_above": 3.5},
            "split": {"by": "quantiles", "valid": 0.1, "test": 0.1},
            "duplicates": "keep-last",
        }
    )
    source = default_registry().get("dataset", "files").load_factory()(config, context=BuildContext(out))
    prepare(source, limit=Limit(), history=HISTORY, folder=out / "stage")
    return PreparedData.open(out / "stage")


def test_all_rows_ids_splits_and_histories_are_those_of_files(theirs: PreparedData, ours: PreparedData) -> None:
    columns = [name for name in theirs.interactions().columns if name in ours.interactions().columns]
    assert set(columns) == {
        *("user", "item", "label", "rating", "timestamp", "split", "row", "order"),
        *("history_start", "history_end", "kept"),
    }
    for name in columns:
        assert theirs.interactions()[name].equals(ours.interactions()[name]), name
    assert np.array_equal(theirs.history_index().positives, ours.history_index().positives)
    assert theirs.user_table().equals(ours.user_table())
    assert theirs.item_table().equals(ours.item_table())
    assert theirs.counts() == ours.counts()
    assert set(theirs.notes) <= set(ours.notes)
    assert (theirs.tie_rule, theirs.visibility) == (ours.tie_rule, ours.visibility)


def test_the_log_has_what_is_compared(theirs: PreparedData, log: Path) -> None:
    raw, kept = pl.read_parquet(log / "*.parquet"), theirs.interactions()
    assert kept.height < raw.height
    assert kept.select("user", "item").is_unique().all()
    assert raw.select("user", "item", "timestamp").is_duplicated().any()
    sizes = kept["user"].value_counts()["count"]
    assert (sizes == 1).sum() >= 100
    assert kept.select("user", "timestamp").is_duplicated().any()
    rows = theirs.rows("test")
    assert (theirs.history(rows, 5) != 0).any()
    assert (theirs.history(rows, 5) == 0).all(axis=1).any()


def test_the_command_measures_its_phases_and_collm_runs_on_the_result(tmp_path: Path) -> None:
    words = [
        sys.executable,
        str(SCRIPT.with_name("duckdb_at_scale.py")),
        "--rows",
        "20000",
        "--memory-gb",
        "0.5",
        "--threads",
        "1",
        "--out",
        "out",
        "--run",
    ]
    given = {**os.environ, "COLLM_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=tmp_path, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    measured = json.loads((tmp_path / "out" / "measured.json").read_text())
    for phase in ("generate", "prepare", "check", "open", "collm run"):
        assert measured[phase]["seconds"] > 0, phase
        assert measured[phase]["peak_gb"] > 0, phase
    assert "sort by row" in measured["steps"]
    assert list((tmp_path / "out" / "runs").glob("prepared-with-duckdb-*/results.json"))
    for name in (INTERACTIONS, POSITIVES, USERS, ITEMS):
        assert (tmp_path / "out" / "prepared" / name).is_file()


def test_a_log_that_is_not_there_is_named(tmp_path: Path) -> None:
    words = [sys.executable, str(SCRIPT), "--log", "nowhere", "--out", "out"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "--log nowhere: holds no *.parquet" in done.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"user": None}, "1 of 50 rows of the log lack a user, item, time or finite rating"),
        ({"item": None}, "1 of 50 rows of the log lack"),
        ({"timestamp": None}, "1 of 50 rows of the log lack"),
        ({"rating": float("nan")}, "1 of 50 rows of the log lack"),
        ({"timestamp": 1_700_000_000_000}, "which are not seconds since 1970; convert them"),
    ],
)
def test_values_that_would_be_lost_in_silence_are_refused(
    script: ModuleType, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    write_log(tmp_path / "log", LogShape.of_rows(50))
    (part,) = (tmp_path / "log").glob("*.parquet")
    log = pl.read_parquet(part)
    first = {name: pl.Series([value], dtype=log.schema[name]) for name, value in change.items()}
    pl.concat([log.head(1).with_columns(**first), log[1:]]).write_parquet(part)
    with pytest.raises(SystemExit, match=said):
        script.prepare(script.Work((part,), tmp_path / "out", 1.0, 1))


def test_times_that_are_no_numbers_are_refused(script: ModuleType, tmp_path: Path) -> None:
    write_log(tmp_path / "log", LogShape.of_rows(50))
    (part,) = (tmp_path / "log").glob("*.parquet")
    pl.read_parquet(part).with_columns(pl.from_epoch("timestamp")).write_parquet(part)
    with pytest.raises(SystemExit, match=r"column timestamp is TIMESTAMP.*; seconds since 1970 as whole numbers only"):
        script.prepare(script.Work((part,), tmp_path / "out", 1.0, 1))
