"""Scoring, recommending and exporting with finished runs, through the real command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from generated import call, write_data
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

BASE = """\
name: {name}
dataset: {{name: movielens-small, path: data}}
encoder: {{name: {encoder}}}
evaluate: {{resamples: 0}}
"""
LANGUAGE = """\
backbone: {name: tiny, dtype: float32}
prompt: {name: movie}
tuning: {name: default, batch_size: 4, text: {epochs: 1, warmup_steps: 2}, collaborative: {epochs: 1, warmup_steps: 2}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three finished runs: an encoder alone, CoLLM, and CoLLM on an encoder that reads the history."""
    root = tmp_path_factory.mktemp("using")
    write_data(root / "data")
    for name, encoder, more in (("mf", "mf-bias", ""), ("hybrid", "mf-bias", LANGUAGE), ("aware", "din", LANGUAGE)):
        (root / f"{name}.yaml").write_text(BASE.format(name=name, encoder=encoder) + more, encoding="utf-8")
        done = call(root, "run", f"{name}.yaml", "--set", "encoder.fit.epochs=3")
        assert done.returncode == 0, done.stderr
    return root


def run_of(folder: Path, name: str) -> Path:
    (found,) = (folder / "runs").glob(f"{name}-[0-9a-f]*")
    return found


@pytest.mark.parametrize("name", ["mf", "hybrid", "aware"])
def test_scores_of_known_rows_are_those_of_the_run(folder: Path, name: str) -> None:
    stored = pl.read_parquet(run_of(folder, name) / "scores.parquet").filter(pl.col("split") == "test")
    (stage,) = (folder / "runs" / "stages").glob("prepare_data-*")
    table = pl.read_parquet(stage / "interactions.parquet").select(pl.col("row").cast(pl.Int64), "timestamp")
    pairs = stored.join(table, on="row", how="left", maintain_order="left")
    pairs.select("user", "item", pl.col("timestamp").alias("time")).write_csv(folder / "pairs.csv")
    done = call(folder, "score", run_of(folder, name).name, "pairs.csv", "-o", f"{name}.csv")
    assert done.returncode == 0, done.stderr
    scored = pl.read_csv(folder / f"{name}.csv", schema_overrides={"user": pl.String, "item": pl.String})
    assert scored["user"].to_list() == stored["user"].to_list()
    np.testing.assert_allclose(scored["score"], stored["score"], atol=1e-5)
    np.testing.assert_allclose(scored["logit"], stored["logit"], atol=1e-4)
    np.testing.assert_allclose(scored["score"], 1 / (1 + np.exp(-scored["logit"].to_numpy())), atol=1e-7)
    assert scored["user_known"].all()
    assert not scored["cold"].any()


def test_another_number_format_scores_close_but_not_the_same(folder: Path) -> None:
    (folder / "few.csv").write_text("user,item\n" + "".join(f"{user},{item}\n" for user in (1, 2) for item in (3, 4)))
    name, scores = run_of(folder, "hybrid").name, {}
    for dtype in ("float32", "bfloat16"):
        done = call(folder, "score", name, "few.csv", "--dtype", dtype)
        assert done.returncode == 0, done.stderr
        scores[dtype] = pl.read_csv(done.stdout.encode())["score"].to_numpy()
    np.testing.assert_allclose(scores["float32"], scores["bfloat16"], atol=0.05)
    assert not np.array_equal(scores["float32"], scores["bfloat16"])


def test_a_number_format_without_a_language_model_is_refused(folder: Path) -> None:
    (folder / "few.csv").write_text("user,item\n1,3\n")
    done = call(folder, "score", run_of(folder, "mf").name, "few.csv", "--dtype", "float32")
    assert done.returncode == 1
    assert "no language model, so no number format to choose" in done.stderr


def test_unknown_ids_are_scored_and_marked(folder: Path) -> None:
    (folder / "new.csv").write_text("user,item,title\n1,1,\nnobody,1,\n1,film-x,Brand New (2030)\nnobody,film-y,\n")
    done = call(folder, "score", run_of(folder, "hybrid").name, "new.csv")
    assert done.returncode == 0, done.stderr
    found = pl.read_csv(done.stdout.encode())
    assert found.height == 4
    assert found["score"].is_between(0, 1).all()
    assert found["user_known"].to_list() == [True, False, True, False]
    assert found["item_known"].to_list() == [True, True, False, False]
    assert found["cold"].to_list() == [False, True, True, True]


def test_titles_that_are_not_used_are_said(folder: Path) -> None:
    (folder / "new.csv").write_text("user,item,title\n1,1,Another\n1,film-x,New\n")
    done = call(folder, "score", run_of(folder, "hybrid").name, "new.csv")
    assert done.returncode == 0, done.stderr
    assert "item 1: the dataset's own title 'Film, The 1 (1994)' is used, not the one given" in done.stderr
    assert "film-x" not in done.stderr
    done = call(folder, "score", run_of(folder, "mf").name, "new.csv")
    assert "titles are not used: the run has no language model" in done.stderr
    (folder / "new.csv").write_text("user,item,title\n1,film-x,New\n2,film-x,Newer\n")
    done = call(folder, "score", run_of(folder, "hybrid").name, "new.csv")
    assert (done.returncode, done.stdout) == (1, "")
    assert "new.csv: line 3: item 'film-x' has the title 'Newer' here and 'New' in line 2; give one" in done.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("user,film\n1,2\n", "lacks the column item; it has user, film"),
        ("user,item,rating\n1,2,3\n", "has unknown columns rating"),
        ("user,item,time\n1,2,3\n,2,3\n1,2,noon\n", "line 3: user is empty (got nothing); line 4: time must be whole"),
        ("user,item\n", "has no rows"),
    ],
)
def test_bad_pairs_are_named(folder: Path, content: str, message: str) -> None:
    (folder / "bad.csv").write_text(content)
    done = call(folder, "score", run_of(folder, "mf").name, "bad.csv")
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_recommending_ranks_the_short_list(folder: Path) -> None:
    name = run_of(folder, "hybrid").name
    done = call(folder, "recommend", name, "--user", "3", "-k", "4", "--shortlist", "6", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["n_candidates"], found["n_ranked"], found["shortlist_by"]) == (40, 6, "encoder")
    assert found["n_rated"] == 30
    chances = [item["probability"] for item in found["items"]]
    assert len(chances) == 4
    assert chances == sorted(chances, reverse=True)
    assert len(found["history"]) > 0
    rated = {
        line.split(",")[1] for line in (folder / "data" / "ratings.csv").read_text().splitlines() if line[:2] == "3,"
    }
    assert not rated & {item["item"] for item in found["items"]}
    # The same model scores the same pairs alike.
    lines = [f"3,{item['item']}" for item in found["items"]]
    (folder / "again.csv").write_text("\n".join(["user,item", *lines]) + "\n")
    again = pl.read_csv(call(folder, "score", name, "again.csv").stdout.encode())
    np.testing.assert_allclose(again["score"], chances, atol=1e-5)
    shown = call(folder, "recommend", name, "--user", "3", "-k", "2")
    assert "history used: Film" in shown.stdout
    assert "user 3: 40 candidates, 30 left out as rated, 10 ranked" in shown.stdout
    assert "short list" not in shown.stdout


def test_candidates_and_unknown_users(folder: Path) -> None:
    (folder / "few.txt").write_text("1\n2\n3\n")
    name = run_of(folder, "mf").name
    done = call(folder, "recommend", name, "--user", "stranger", "--candidates", "few.txt", "--json")
    found = json.loads(done.stdout)
    assert sorted(item["item"] for item in found["items"]) == ["1", "2", "3"]
    assert found["history"] == []
    assert "user stranger is unknown" in done.stderr
    (folder / "few.txt").write_text("1\nnot-there\n")
    bad = call(folder, "recommend", name, "--user", "3", "--candidates", "few.txt")
    assert bad.returncode == 1
    assert "1 items are not in the dataset: not-there" in bad.stderr


def test_a_run_that_cannot_be_used_says_why(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "runs"
    shutil.copytree(folder / "runs", copy)
    run = copy / run_of(folder, "mf").name
    spec = (run / "spec.yaml").read_text()
    (run / "spec.yaml").write_text(spec.replace("seed: 0", "seed: 1"))
    edited = call(folder, "score", str(run), "pairs.csv")
    assert edited.returncode == 1
    assert "spec.yaml: damaged: its contents are not those that were written; repeat its `collm run`" in edited.stderr
    (run / "spec.yaml").write_text(spec)
    for stage in (copy / "stages").glob("fit_encoder-*"):
        shutil.rmtree(stage)
    gone = call(folder, "score", str(run), "pairs.csv")
    assert gone.returncode == 1
    assert "missing or unfinished, and the run needs it" in gone.stderr
    (run / "done").unlink()
    assert "not a finished run" in call(folder, "score", str(run), "pairs.csv").stderr
    assert call(folder, "score", "nowhere", "pairs.csv").returncode == 2


@pytest.mark.parametrize("name", ["hybrid", "aware"])
def test_an_export_scores_like_the_run(folder: Path, name: str) -> None:
    target = f"exported-{name}"
    done = call(folder, "export", run_of(folder, name).name, target, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["merged_modules"] == 4
    assert found["largest_gap"] <= 1e-4
    card = json.loads((folder / target / "collm.json").read_text())
    assert card["parity"]["probe_rows"] == found["probe_rows"] > 10
    tensors = load_file(folder / target / "vectors.safetensors")
    assert tensors["item"].shape[0] == 41
    assert ("user" in tensors) is (name == "hybrid")
    model = AutoModelForCausalLM.from_pretrained(folder / target / "model")
    assert not [key for key, _ in model.named_parameters() if "lora" in key]
    again = call(folder, "export", run_of(folder, name).name, target)
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_an_export_that_differs_is_refused_and_leaves_nothing(folder: Path) -> None:
    options = ("--dtype", "bfloat16", "--max-gap", "0")
    done = call(folder, "export", run_of(folder, "hybrid").name, "refused", *options)
    assert done.returncode == 1, done.stderr
    assert "refused: on" in done.stderr
    assert not list(folder.glob("refused*"))
    alone = call(folder, "export", run_of(folder, "mf").name, "refused")
    assert alone.returncode == 2
    assert "no language model to merge" in alone.stderr
