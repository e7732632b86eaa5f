"""The paths of docs/encoders.md, walked with the page's code: given vectors through every strategy, and attributes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from generated import write_data
from safetensors.numpy import load_file
from sklearn.metrics import roc_auc_score

from collm.component import BuildContext
from collm.errors import DataError, RunError
from collm.plugins import EntryPoint, load_plugins
from collm.registry import Registry, build_registry, default_registry, registry_of
from collm.runner import run_spec
from collm.runs.environment import RunOptions
from collm.runs.records import RunOutcome
from collm.spec.expand import load_any
from collm.trained.export import export_run
from collm.trained.opened import open_run
from collm.trained.recommend import recommend
from collm_vectors import encoder as vectors_encoder

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "encoders.md").read_text(encoding="utf-8")
REGISTRY = default_registry()


def blocks(kind: str, heading: str) -> list[str]:
    """Fenced blocks of one kind in a section of the page."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## )", PAGE, re.DOTALL | re.MULTILINE)
    return re.findall(rf"^```{kind}\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)


def run(folder: Path, spec: str, *overrides: str, registry: Registry = REGISTRY) -> RunOutcome:
    (folder / "spec.yaml").write_text(spec, encoding="utf-8")
    given = ["evaluate.resamples=0", *overrides]
    resolved: Any = load_any(folder / "spec.yaml", given, registry, cwd=folder)
    return run_spec(resolved, registry, RunOptions(folder / "runs", folder / "cache", device="cpu", threads=1))


def facts(made: RunOutcome) -> dict[str, Any]:
    """What a run's results say of its stages."""
    found: dict[str, Any] = json.loads((made.folder / "results.json").read_text())["facts"]
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the vectors that the page's example writes."""
    root = tmp_path_factory.mktemp("vectors")
    (example,) = blocks("python example", "I already have vectors")
    assert "collm" not in example
    (root / "write.py").write_text(example, encoding="utf-8")
    subprocess.run([sys.executable, "write.py"], cwd=root, check=True)
    return root


ALONE, IN_PROMPTS = blocks("yaml spec", "I already have vectors")
FAST = (
    "backbone.dtype=float32",
    "tuning.text.warmup_steps=1",
    "tuning.collaborative.warmup_steps=1",
    "tuning.collaborative.learning_rate=0.01",
)


def given_vectors(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Raw id -> vector, read without any of our code."""
    users = dict(zip((folder / "user_ids.txt").read_text().split(), np.load(folder / "users.npy"), strict=True))
    table = pl.read_parquet(folder / "items.parquet")
    return users, dict(zip(table["item_id"], table["vector"].to_numpy(), strict=True))


def test_dot_products_rank_as_scikit_learn_says(folder: Path) -> None:
    users, items = given_vectors(folder)
    for factor in (1.0, 1000.0):
        np.save(folder / "users.npy", np.array(list(users.values())) * np.float32(factor))
        made = run(folder, ALONE)
        scores = pl.read_parquet(made.folder / "scores.parquet").filter(pl.col("split") == "test")
        dot = [
            float(users[u].astype(np.float64) @ items[i].astype(np.float64))
            for u, i in scores.select("user", "item").iter_rows()
        ]
        auc = made.plain()["metrics"]["test"]["all"]["auc"]["value"]
        assert auc == pytest.approx(roc_auc_score(scores["label"], dot), abs=1e-12)
        tied = [note for note in made.results.notes if "distinct test logits round to the same probability" in note]
        # Of products of thousands nearly all probabilities are exactly 0 or 1.
        assert (scores["score"].n_unique() < 0.2 * scores.height) == bool(tied) == (factor == 1000.0)
    np.save(folder / "users.npy", np.array(list(users.values())))


def test_other_bytes_are_another_result(folder: Path) -> None:
    users = np.load(folder / "users.npy")
    first = run(folder, ALONE)
    assert run(folder, ALONE).reused
    try:
        np.save(folder / "users.npy", users[::-1])
        other = run(folder, ALONE)
        assert not other.reused
        assert other.results.metrics != first.results.metrics
        with pytest.raises(RunError, match=r"the contents of encoder\.users are not those that the run was made with"):
            open_run(first.folder, cache_dir=folder / "cache", registry=REGISTRY)
    finally:
        np.save(folder / "users.npy", users)
    assert run(folder, ALONE).reused


def test_missing_ids_are_reported(folder: Path, tmp_path: Path) -> None:
    for name in ("users.npy", "items.parquet"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    lines = (folder / "user_ids.txt").read_text().split()
    (tmp_path / "user_ids.txt").write_text("\n".join(["gone", *lines[1:]]) + "\n")
    made = run(tmp_path, ALONE)
    said = (
        "1 of 60 users have no vector in the file of user vectors; the mean of its 60 vectors stands for each of them."
    )
    assert said in made.results.notes
    assert "1 of 60 ids in the file of user vectors are not in the data." in made.results.notes
    assert facts(made)["encoder"]["users"]["without_vector"] == 1
    # Without a random start, t2 has no fit whose facts could say it: the tuning step does.
    tuned = run(tmp_path, IN_PROMPTS, *FAST, "tuning.name=t2")
    assert said in tuned.results.notes
    assert facts(tuned)["tune_2"]["encoder"]["users"]["without_vector"] == 1
    assert any(note.startswith("Given vectors have no random start") for note in tuned.results.notes)


@pytest.fixture(scope="module", params=["default", "t1", "t2", "t3"])
def tuned(request: pytest.FixtureRequest, folder: Path) -> tuple[str, RunOutcome]:
    return request.param, run(folder, IN_PROMPTS, *FAST, f"tuning.name={request.param}")


def test_strategies_move_the_vectors_as_they_say(folder: Path, tuned: tuple[str, RunOutcome]) -> None:
    name, made = tuned
    stages = folder / "runs" / "stages"
    last = stages / f"tune_{1 if name == 't3' else 2}-{made.results.stages['tune_1' if name == 't3' else 'tune_2']}"
    moved = last / "encoder.safetensors"
    assert moved.exists() == (name in ("t1", "t2"))
    users, _ = given_vectors(folder)
    if name == "t2":
        assert "fit_encoder" not in made.results.stages
    else:
        fitted = load_file(stages / f"fit_encoder-{made.results.stages['fit_encoder']}" / "encoder.safetensors")
        np.testing.assert_array_equal(fitted["user_vectors"][1:], by_dense_id(stages, made, users))
    if moved.exists():
        after = load_file(moved)["user_vectors"][1:]
        gap = np.abs(after - by_dense_id(stages, made, users)).max(axis=1)
        assert (gap > 0).any()
        assert gap.max() < 1.0


def by_dense_id(stages: Path, made: RunOutcome, vectors: dict[str, Any]) -> np.ndarray[Any, Any]:
    table = pl.read_parquet(stages / f"prepare_data-{made.results.stages['prepare_data']}" / "users.parquet")
    return np.array([vectors[each] for each in table["id"][1:]])


def test_a_tuned_run_scores_recommends_and_exports(folder: Path, tuned: tuple[str, RunOutcome], tmp_path: Path) -> None:
    _, made = tuned
    model = open_run(made.folder, cache_dir=folder / "cache", registry=REGISTRY, device="cpu", threads=1)
    stored = pl.read_parquet(made.folder / "scores.parquet").filter(pl.col("split") == "test").head(20)
    logits = model.logits(model.data, model.data.rows("test").take(np.arange(20)))
    np.testing.assert_allclose(logits, stored["logit"], atol=1e-4)
    assert np.isfinite(model.pair_logits(["u1", "nobody"], ["i1", "i2"])).all()
    found = recommend(model, "u1", k=3, shortlist=10)
    assert len(found.items) == 3
    assert found.shortlist_by == ("popularity" if made.results.stages.get("fit_encoder") is None else "encoder")
    exported = export_run(model, tmp_path / "out")
    assert exported.largest_gap <= exported.allowed_gap
    assert load_file(tmp_path / "out" / "vectors.safetensors")["user"].shape == (61, 64)


def test_t2_is_tuned_again_with_other_vectors(folder: Path) -> None:
    users = np.load(folder / "users.npy")
    first = run(folder, IN_PROMPTS, *FAST, "tuning.name=t2")
    try:
        np.save(folder / "users.npy", users * 2)
        other = run(folder, IN_PROMPTS, *FAST, "tuning.name=t2")
    finally:
        np.save(folder / "users.npy", users)
    assert other.results.stages["tune_1"] == first.results.stages["tune_1"]
    assert other.results.stages["tune_2"] != first.results.stages["tune_2"]


def test_the_files_are_read_once_per_model(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts ask the model's own encoder how many tokens a slot has, and build none for it."""
    reads: list[str] = []
    read_table = vectors_encoder.read_table
    monkeypatch.setattr(vectors_encoder, "read_table", lambda *given: reads.append(given[0].side) or read_table(*given))
    for path in folder.iterdir():
        if path.is_file():
            shutil.copy2(path, tmp_path)
    made = run(tmp_path, IN_PROMPTS, *FAST[:-2], "tuning.collaborative.warmup_steps=20", "tuning.name=t2")
    # The second tuning step, and the finished model that scores.
    assert len(reads) == 2 * 2
    (said,) = [note for note in made.results.notes if "the warm-up has 20 optimiser steps" in note]
    assert said.startswith("tune_2 collaborative: ")
    assert said.endswith(".")


def test_recommending_ranks_by_the_logit(folder: Path) -> None:
    """Probabilities of long vectors are all 0 or 1: their order would be that of item ids."""
    users, items = given_vectors(folder)
    made = run(folder, ALONE, "name=long")
    model = open_run(made.folder, cache_dir=folder / "cache", registry=REGISTRY, device="cpu", threads=1)
    encoder = model.encoder
    assert encoder is not None
    encoder.user_vectors.data *= 1000
    found = [each.item for each in recommend(model, "u2", k=10, include_seen=True).items]
    known = {each for each in model.data.item_ids if each}
    best = sorted(known, key=lambda item: -float(users["u2"].astype(np.float64) @ items[item]))
    assert found == best[:10]


def test_validate_finds_it_at_its_line(folder: Path, tmp_path: Path) -> None:
    from collm.look import look_around

    (tmp_path / "user_ids.txt").write_text("u1\nu1\n")
    for name in ("users.npy", "items.parquet"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "spec.yaml").write_text(ALONE)
    resolved: Any = load_any(tmp_path / "spec.yaml", [], REGISTRY, cwd=tmp_path)
    (problem,) = look_around([resolved], REGISTRY, BuildContext(tmp_path, find=REGISTRY.get))
    line = next(number for number, text in enumerate(ALONE.splitlines(), start=1) if "user_ids" in text)
    assert str(problem).startswith(f"{tmp_path / 'spec.yaml'}:{line}:")
    assert ": encoder.user_ids: " in str(problem)
    assert "2 ids for the 60 vectors of users.npy" in str(problem)


def genres_registry(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    (body,) = blocks("python plugin", "What an encoder may see")
    (folder / "collm_genres.py").write_text(body, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    plugin = build_registry(load_plugins([EntryPoint("collm_genres", "collm_genres", "collm")], strict=True))
    return registry_of([*REGISTRY.components(), *plugin.components()])


GENRES = {item: ("Drama", "Comedy|Drama", "War")[item % 3] for item in range(1, 41)}


def movielens(folder: Path) -> str:
    """A MovieLens folder whose films have genres, and the spec that reads it."""
    write_data(folder / "data")
    movies = [f'{item},"Film, The {item} (1994)",{names}' for item, names in GENRES.items()]
    (folder / "data" / "movies.csv").write_text("\n".join(["movieId,title,genres", *movies]) + "\n")
    dataset = "{name: movielens-small, path: data, item_attributes: [genres]}"
    return f"name: genres\ndataset: {dataset}\nencoder: {{name: genres}}\n"


def own_files(folder: Path) -> str:
    """The same as files of one's own, and the page's spec."""
    movielens(folder)
    ratings = pl.read_csv(folder / "data" / "ratings.csv").with_columns(pl.col("timestamp") + 1_500_000_000)
    ratings.write_csv(folder / "ratings.csv")
    (folder / "data" / "movies.csv").rename(folder / "movies.csv")
    (spec,) = blocks("yaml example", "What an encoder may see")
    return spec


@pytest.mark.parametrize("make", [movielens, own_files])
def test_the_page_s_encoder_reads_genres(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any) -> None:
    registry = genres_registry(tmp_path, monkeypatch)
    spec = make(tmp_path)
    with pytest.raises(DataError, match=r"set dataset\.item_attributes: \[genres\]"):
        run(tmp_path, re.sub(r"(, |  )item_attributes: \[genres\]\n?", "", spec), registry=registry)
    made = run(tmp_path, spec, registry=registry)
    scores = pl.read_parquet(made.folder / "scores.parquet").with_columns(
        pl.col("item").cast(pl.Int64).replace_strict(GENRES).alias("genres")
    )
    logits = {names: set(part["logit"]) for (names,), part in scores.group_by("genres")}
    assert {names: len(found) for names, found in logits.items()} == {"Drama": 1, "Comedy|Drama": 1, "War": 1}
    # The share of likes of War over training rows, with ten rows of the mean beside them.
    stage = made.folder.parent / "stages" / f"prepare_data-{made.results.stages['prepare_data']}"
    train = pl.read_parquet(stage / "interactions.parquet").filter(pl.col("split") == "train")
    ids = pl.read_parquet(stage / "items.parquet").select("item", "id")
    train = train.join(ids, on="item").with_columns(pl.col("id").cast(pl.Int64).replace_strict(GENRES).alias("genres"))
    war = train.filter(pl.col("genres") == "War")["label"]
    share = (war.sum() + 10 * train["label"].mean()) / (len(war) + 10)
    assert logits["War"].pop() == pytest.approx(np.log(share / (1 - share)), abs=1e-5)
