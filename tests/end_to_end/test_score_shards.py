"""`collm score --launcher`: every row once, the scores of one process, continued after a kill, nothing mixed up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import polars as pl
import pytest
from generated import call, command, docs_command, docs_section

from collm.cli.main import call as call_here

SUITE = """\
name: shards
base:
  name: shards
  dataset: {name: tiny}
  encoder: {name: mf-bias, embedding_size: 4, fit: {epochs: 2}}
  evaluate: {resamples: 20}
runs:
  encoder: {}
  language:
    backbone: {name: tiny, dtype: float32}
    prompt: {name: movie}
    tuning: {name: default, max_rows: 40, text: &step {epochs: 1}, collaborative: *step}
"""
N_ROWS = 103
TWO = ("--launcher", "local", "--workers", "2", "--device", "cpu", "--cpus-per-worker", "1", "--shard-rows", "20")
TITLE = "A film that nobody knows (1999)"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two finished runs and pairs, some of unknown users and items."""
    folder = tmp_path_factory.mktemp("shards")
    (folder / "suite.yaml").write_text(SUITE, encoding="utf-8")
    done = call(folder, "run", "suite.yaml", "--device", "cpu", "--threads", "1")
    assert done.returncode == 0, done.stderr
    known = next((folder / "runs").glob("shards-encoder-*")) / "scores.parquet"
    scored = pl.read_parquet(known)
    users, items = (scored[name].unique().sort().cast(pl.String).to_list() for name in ("user", "item"))
    pairs = pl.DataFrame(
        {
            "user": [("nobody" if row % 11 == 0 else users[row % len(users)]) for row in range(N_ROWS)],
            "item": [("nothing" if row % 9 == 0 else items[row * 7 % len(items)]) for row in range(N_ROWS)],
            # The title of the unknown item stands in its last row alone: all its rows are asked about it.
            "title": [TITLE if row == 99 else None for row in range(N_ROWS)],
        }
    )
    pairs.write_parquet(folder / "pairs.parquet")
    return folder


def name_of(root: Path, kind: str) -> str:
    return next((root / "runs").glob(f"shards-{kind}-*")).name


def shards(folder: Path) -> pl.DataFrame:
    """All rows, as they lie in the files of a folder, in the order of the pairs."""
    return pl.concat(pl.read_parquet(path) for path in sorted(folder.glob("part-*.parquet"))).sort("row")


def expected(root: Path, kind: str) -> pl.DataFrame:
    done = call(root, "score", name_of(root, kind), "pairs.parquet", "-o", f"{kind}.csv", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    return pl.read_csv(root / f"{kind}.csv", schema_overrides={"user": pl.String, "item": pl.String})


@pytest.mark.parametrize("kind", ["encoder", "language"])
def test_shards_have_every_row_once_with_the_scores_of_one_process(root: Path, kind: str) -> None:
    done = call(root, "score", name_of(root, kind), "pairs.parquet", "-o", f"out-{kind}", *TWO)
    assert done.returncode == 0, done.stderr
    assert "103 rows in 6 shards; finished before: 0" in done.stderr
    assert "10 rows of unknown users, 12 of unknown items" in done.stderr
    found, wanted = shards(root / f"out-{kind}"), expected(root, kind)
    assert found["row"].to_list() == list(range(N_ROWS))
    same = [name for name in wanted.columns if name not in ("logit", "score")]
    assert found.select(same).equals(wanted.select(same).cast(found.select(same).schema))
    for name in ("logit", "score"):
        assert (found[name] - wanted[name]).abs().max() < 1e-5
    again = call(root, "score", name_of(root, kind), "pairs.parquet", "-o", f"out-{kind}", *TWO)
    assert f"out-{kind}: everything was scored before" in again.stderr


def test_two_workers_and_one_give_equal_scores(root: Path) -> None:
    for workers in ("1", "2"):
        words = ["local" if word == "local" else workers if word == "2" else word for word in TWO]
        done = call(root, "score", name_of(root, "language"), "pairs.parquet", "-o", f"by-{workers}", *words)
        assert done.returncode == 0, done.stderr
    one, two = shards(root / "by-1"), shards(root / "by-2")
    assert one.equals(two)
    assert one["logit"].n_unique() > 10


def test_a_killed_command_is_continued_by_the_same_one(root: Path) -> None:
    words = ("score", name_of(root, "encoder"), "pairs.parquet", "-o", "killed", *TWO[:-1], "5")
    given = {**os.environ, "COLLM_CACHE": str(root / "cache"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command(*words), cwd=root, env=given, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 200
    while not list((root / "killed").glob("part-*")) and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = {path.name: path.stat().st_mtime_ns for path in (root / "killed").glob("part-*")}
    assert before
    done = call(root, *words)
    assert done.returncode == 0, done.stderr
    assert f"finished before: {len(before)}" in done.stderr
    after = {path.name: path.stat().st_mtime_ns for path in (root / "killed").glob("part-*")}
    assert {name: after[name] for name in before} == before
    assert shards(root / "killed")["row"].to_list() == list(range(N_ROWS))
    assert json.loads((root / "killed" / "scoring.json").read_text())["shard_rows"] == 5


@pytest.mark.slow
def test_actors_of_ray_score_as_processes_do(root: Path) -> None:
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'collm[ray]'")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        address = ray.get_runtime_context().gcs_address
        for workers in ("1", "2"):
            words = ("--launcher", f"ray:{address}", "--workers", workers, "--shard-rows", "20", "-o", f"ray-{workers}")
            done = call(root, "score", name_of(root, "language"), "pairs.parquet", *words)
            assert done.returncode == 0, done.stderr
        more = call(root, "score", name_of(root, "language"), "pairs.parquet", *words[:3], "3", *words[4:-1], "more")
        assert more.returncode == 2
        assert "the cluster has room for 2 workers (each gets 1 core and no GPU" in more.stderr
    finally:
        ray.shutdown()
    assert shards(root / "ray-1").equals(shards(root / "ray-2"))
    wanted = expected(root, "language")
    assert (shards(root / "ray-2")["logit"] - wanted["logit"]).abs().max() < 1e-5


def bad_pairs(root: Path, name: str, **columns: list) -> str:
    pl.DataFrame(columns).write_parquet(root / f"{name}.parquet")
    return f"{name}.parquet"


@pytest.fixture
def here(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder as working directory, for commands that end before they start a worker."""
    monkeypatch.chdir(root)
    monkeypatch.setenv("COLLM_CACHE", str(root / "cache"))
    return root


def test_a_bad_row_is_named_with_its_line_in_the_file(root: Path) -> None:
    empty = bad_pairs(root, "empty", user=["1", None], item=["1", "2"])
    done = call(root, "score", name_of(root, "encoder"), empty, *TWO[:-1], "1", "-o", "bad")
    assert done.returncode == 1
    assert "line 2: user is empty" in done.stderr
    assert not (root / "bad" / "done").exists()


def test_what_shards_cannot_score_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = here
    encoder, language = name_of(root, "encoder"), name_of(root, "language")
    (root / "pairs.csv").write_text("user,item\n1,2\n")
    (root / "full").mkdir(exist_ok=True)
    (root / "full" / "notes.txt").write_text("mine")
    spelt = bad_pairs(root, "spelt", user=["1", "2.0"], item=["1", "2"])
    floats = bad_pairs(root, "floats", user=[1.0, 2.5], item=["1", "2"])
    titles = bad_pairs(root, "titles", user=["1", "2"], item=["x", "x"], title=["One", "Two"])
    column = bad_pairs(root, "column", user=["1"], itm=["1"])
    refused = [
        (encoder, "pairs.csv", ("-o", "x1"), "is not a parquet file"),
        (encoder, "nowhere.parquet", ("-o", "x2"), "no such file"),
        (encoder, "pairs.parquet", (), "writes a folder of shards; name it with -o DIR"),
        (encoder, "pairs.parquet", ("-o", "full"), "full: holds other files"),
        (encoder, spelt, ("-o", "x3"), "line 2: user '2.0' is a whole number in another spelling"),
        (encoder, floats, ("-o", "x4"), "column 'user' holds Float64; write ids as text or whole numbers"),
        (language, titles, ("-o", "x5"), "item 'x' has the titles 'One' and 'Two'; give one"),
        (encoder, column, ("-o", "x7"), "lacks the column item; it has user, itm"),
    ]
    for name, pairs, more, said in refused:
        assert call_here(["score", name, pairs, *TWO, *more]) in (1, 2), said
        assert said in capsys.readouterr().err


def test_a_folder_is_continued_with_what_it_was_begun_with(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["score", name_of(here, "encoder"), "pairs.parquet", "-o", "begun", *TWO]
    done = call(here, *words)
    assert done.returncode == 0, done.stderr
    assert call_here([*words[:-1], "30"]) == 2
    said = capsys.readouterr().err
    assert "begun: was begun with another --shard-rows; give what it was begun with, or a new folder" in said
    assert call_here([words[0], name_of(here, "language"), *words[2:]]) == 2
    assert "was begun with another run, contents of the run" in capsys.readouterr().err
    part = here / "begun" / "part-000001.parquet"
    part.write_bytes(part.read_bytes()[:-1])
    assert call_here(words) == 1
    said = capsys.readouterr().err
    assert "damaged: " in said
    assert "remove " in said


def test_the_command_of_the_docs(root: Path) -> None:
    section = docs_section("cluster.md", "Score a large file")
    words = [name_of(root, "encoder") if word == "RUN" else word for word in docs_command(section)]
    done = call(root, *words, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "wrote scored: 103 rows in 3 parquet files" in done.stderr
    assert (root / "scored" / "done").is_file()
