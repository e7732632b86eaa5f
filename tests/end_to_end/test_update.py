"""`collm update`: what trains and what stays bit by bit, an honest number, a run that can be used and updated again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from generated import call, collm, write_data
from safetensors.numpy import load_file

SPEC = """\
name: NAME
dataset: {name: movielens-small, path: data, limit: {valid: 40}}
history: {max_items: 3}
encoder: {name: ENCODER, embedding_size: 4, fit: {epochs: 2, batch_size: 64}}
evaluate:
  resamples: 0
"""
LANGUAGE = """\
backbone: {name: tiny, dtype: float32}
prompt: {name: movie}
tuning:
  name: TUNING
  batch_size: 8
  max_rows: 32
  text: {epochs: 1, warmup_steps: 1, validations_per_epoch: 1}
  collaborative: {epochs: 1, warmup_steps: 1, validations_per_epoch: 1}
"""
RANKING = "  ranking: {candidates: {sample: 5}, metrics: [mrr]}\n"
FIRST = 2_000_000
ROWS = [
    *(("new", item, 5, "") for item in (1, 2, 3)),
    *(("new", item, 1, "") for item in (4, 6)),
    *((str(user), 99, 5 if user % 2 else 1, "Film 99 (2001)") for user in (1, 2, 3, 4)),
    *(("5", item, 4 if item % 2 else 2, "") for item in (7, 8, 9)),
]
PAIRS = "user,item\nnew,1\nnew,99\n1,99\nnobody,5\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three runs and their updates, made by the command line."""
    root = tmp_path_factory.mktemp("update")
    write_data(root / "data")
    lines = ["user,item,rating,timestamp,title"]
    lines += [f"{user},{item},{stars},{FIRST + place},{title}" for place, (user, item, stars, title) in enumerate(ROWS)]
    (root / "new.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (root / "pairs.csv").write_text(PAIRS, encoding="utf-8")
    for name, encoder, more in (
        ("mf", "mf-bias", RANKING),
        ("hybrid", "sasrec", LANGUAGE),
        ("t1", "mf-bias", LANGUAGE),
    ):
        text = (SPEC + more).replace("NAME", name).replace("ENCODER", encoder)
        text = text.replace("TUNING", "t1" if name == "t1" else "default")
        (root / f"{name}.yaml").write_text(text, encoding="utf-8")
        collm(root, "run", f"{name}.yaml")
    for policy in ("frozen", "encoder", "all"):
        collm(root, "update", run_of(root, "hybrid").name, "new.csv", "--policy", policy, "-o", f"runs/h-{policy}")
    for policy in ("frozen", "encoder"):
        collm(root, "update", run_of(root, "mf").name, "new.csv", "--policy", policy, "-o", f"runs/m-{policy}")
    return root


def run_of(root: Path, name: str) -> Path:
    (found,) = (path for path in (root / "runs").glob(f"{name}-*") if len(path.name) == len(name) + 11)
    return found


def results(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "results.json").read_text(encoding="utf-8"))
    return found


def weights(root: Path, path: Path, stage: str, file: str) -> dict[str, np.ndarray[Any, Any]]:
    of = results(path)["stages"][stage]
    found: dict[str, np.ndarray[Any, Any]] = load_file(root / "runs" / "stages" / f"{stage}-{of}" / file)
    return found


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return set(first) == set(second) and all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("policy", ["frozen", "encoder"])
def test_lora_and_mapping_stay_bit_by_bit(folder: Path, policy: str) -> None:
    parent, updated = run_of(folder, "hybrid"), folder / "runs" / f"h-{policy}"
    for stage, file in (("tune_1", "lora.safetensors"), ("tune_2", "projector.safetensors")):
        assert same(weights(folder, parent, stage, file), weights(folder, updated, stage, file))
    old, new = (weights(folder, path, "fit_encoder", "encoder.safetensors") for path in (parent, updated))
    # SASRec's blocks know no ids.
    blocks = [name for name in old if name.startswith(("blocks", "last_norm", "position"))]
    assert blocks
    assert all(np.array_equal(old[name], new[name]) for name in blocks) == (policy == "frozen")


def test_all_trains_mapping_and_lora(folder: Path) -> None:
    parent, updated = run_of(folder, "hybrid"), folder / "runs" / "h-all"
    for stage, file in (("tune_1", "lora.safetensors"), ("tune_2", "projector.safetensors")):
        assert not same(weights(folder, parent, stage, file), weights(folder, updated, stage, file))
    stage = folder / "runs" / "stages" / f"tune_1-{results(updated)['stages']['tune_1']}"
    assert (stage / "adapter" / "adapter_model.safetensors").is_file()
    encoder = weights(folder, folder / "runs" / "h-encoder", "fit_encoder", "encoder.safetensors")
    assert same(encoder, weights(folder, updated, "fit_encoder", "encoder.safetensors"))


def test_frozen_moves_no_id_that_was_trained(folder: Path) -> None:
    parent, updated = run_of(folder, "mf"), folder / "runs" / "m-frozen"
    old, new = (weights(folder, path, "fit_encoder", "encoder.safetensors") for path in (parent, updated))
    (stage,) = (folder / "runs" / "stages").glob(f"prepare_data-{results(parent)['stages']['prepare_data']}")
    train = pl.read_parquet(stage / "interactions.parquet").filter((pl.col("split") == "train") & pl.col("kept"))
    for side in ("user", "item"):
        ids = np.unique(train[side].to_numpy())
        for table in (f"{side}_factors.weight", f"{side}_bias.weight"):
            np.testing.assert_array_equal(new[table][ids], old[table][ids])
            assert len(new[table]) == len(old[table]) + 1
            assert np.abs(new[table][-1]).max() > 0
    assert new["global_bias"] == old["global_bias"]
    moved = weights(folder, folder / "runs" / "m-encoder", "fit_encoder", "encoder.safetensors")
    assert not np.array_equal(moved["user_bias.weight"][ids[:5]], old["user_bias.weight"][ids[:5]])


def test_new_rows_were_scored_before_anything_learnt_from_them(folder: Path) -> None:
    scored = pl.read_parquet(folder / "runs" / "m-encoder" / "scores.parquet")
    assert scored["split"].unique().to_list() == ["test"]
    assert scored["user"].to_list() == [row[0] for row in ROWS]
    (folder / "asked.csv").write_text(
        "user,item\n" + "".join(f"{user},{item}\n" for user, item, *_ in ROWS), encoding="utf-8"
    )
    collm(folder, "score", run_of(folder, "mf").name, "asked.csv", "-o", "before.csv")
    np.testing.assert_allclose(scored["logit"], pl.read_csv(folder / "before.csv")["logit"], atol=1e-6)
    collm(folder, "score", "m-encoder", "asked.csv", "-o", "after.csv")
    assert np.abs(scored["logit"].to_numpy() - pl.read_csv(folder / "after.csv")["logit"].to_numpy()).max() > 1e-3
    first = results(folder / "runs" / "m-encoder")["notes"]
    assert any(note.startswith("Test rows are the 12 new interactions, scored before the update") for note in first)
    assert same_metrics(folder, "m-encoder", "m-frozen")


def same_metrics(root: Path, first: str, second: str) -> bool:
    one, two = (results(root / "runs" / name)["metrics"] for name in (first, second))
    return bool(one == two)


def test_it_names_its_parent_and_what_it_did(folder: Path) -> None:
    found, parent = results(folder / "runs" / "h-encoder"), run_of(folder, "hybrid")
    facts = found["facts"]["update"]
    assert (facts["parent"], facts["policy"], facts["new_rows"]) == (parent.name, "encoder", 12)
    assert (facts["new_users"], facts["new_items"]) == (1, 1)
    assert facts["parent_stages"]["fit_encoder"] == results(parent)["stages"]["fit_encoder"] and facts["seconds"] > 0
    environment = json.loads((folder / "runs" / "h-encoder" / "environment.json").read_text(encoding="utf-8"))
    assert environment["parent"]["spec_hash"] == results(parent)["spec_hash"]
    assert str(folder) not in json.dumps([found, environment["parent"]])


@pytest.mark.parametrize(
    ("name", "trained"), [("m-frozen", []), ("m-encoder", []), ("h-encoder", []), ("h-all", ["tune_1", "tune_2"])]
)
def test_its_times_are_those_of_its_own_work(folder: Path, name: str, trained: list[str]) -> None:
    """All steps of its encoder count, and no tuning that its parent did."""
    found = results(folder / "runs" / name)
    training = {stage: each for stage, each in found["timing"].items() if each["kind"] in ("fit_encoder", "tune")}
    assert sorted(training) == ["fit_encoder", *trained]
    total = sum(each["work_seconds"] for each in training.values())
    assert total == pytest.approx(found["facts"]["update"]["seconds"], abs=0.01)


def test_it_says_on_how_many_rows_the_mapping_and_lora_trained(folder: Path) -> None:
    found = results(folder / "runs" / "h-all")
    seen, rows = found["facts"]["update"]["rows_seen"], found["facts"]["tune_1"]["rows"]
    assert 32 <= rows < seen
    said = f"Then the mapping and LoRA trained on {rows:,} of these {seen:,} rows, drawn as tuning.max_rows says"
    assert f"{said}: 1 passes." in found["notes"]


def test_what_is_said_of_the_parents_rankings_is_not_said_of_it(folder: Path) -> None:
    parent, found = (results(path)["notes"] for path in (run_of(folder, "mf"), folder / "runs" / "m-frozen"))
    about = ("Ranking, ", "Metrics over ")
    assert any(note.startswith(about[0]) for note in parent) and any(note.startswith(about[1]) for note in parent)
    assert not [note for note in found if any(words in note for words in about)]
    assert "The parent ranked candidates (evaluate.ranking); an update measures the new rows alone." in found


def test_it_can_be_used_as_any_run(folder: Path) -> None:
    scored = pl.read_csv(collm(folder, "score", "h-encoder", "pairs.csv").encode())
    assert scored["user_known"].to_list() == [True, True, True, False]
    assert scored["user_train_rows"].to_list()[0] == 5
    assert scored["cold"].to_list() == [False, False, False, True]
    assert "Film, The" in collm(folder, "recommend", "h-encoder", "--user", "new", "-k", "2")
    collm(folder, "export", "h-encoder", "exported")
    assert (folder / "exported" / "encoder.safetensors").is_file()
    assert "h-encoder" in collm(folder, "runs")
    assert "h-encoder: whole" in collm(folder, "runs", "check", "h-encoder")
    collm(folder, "report", "runs/h-encoder", "runs/h-frozen", "runs/h-all", "--html", "report.html")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Training of an update: its own, without that of its parent." in page
    assert "0 folders" in collm(folder, "runs", "gc", "--dry-run")


def test_it_can_be_updated_again(folder: Path) -> None:
    text = "user,item,label,timestamp,title\nnew,7,1,2000100,\nnewer,1,yes,2000101,\n1,100,0,2000102,Film 100\n"
    (folder / "more.csv").write_text(text, encoding="utf-8")
    collm(folder, "update", "h-encoder", "more.csv", "-o", "runs/h-second")
    found = results(folder / "runs" / "h-second")
    assert found["counts"]["test"] == 3
    assert (
        found["facts"]["update"]["rows_seen"]
        == results(folder / "runs" / "h-encoder")["facts"]["update"]["rows_seen"] + 3
    )
    parent = run_of(folder, "hybrid").name
    said = f"Before the update: The parent is itself an update (encoder), of {parent}."
    assert said in found["notes"]
    scored = pl.read_csv(collm(folder, "score", "h-second", "pairs.csv").encode())
    assert scored["user_train_rows"].to_list()[0] == 6


def test_repeating_does_nothing_and_another_update_is_refused(folder: Path) -> None:
    parent = run_of(folder, "mf").name
    done = call(folder, "update", parent, "new.csv", "--policy", "frozen", "-o", "runs/m-frozen")
    assert done.returncode == 0
    assert "finished before, nothing to do" in done.stderr
    for arguments, said in (
        (("--policy", "encoder", "-o", "runs/m-frozen"), "is another update already (other policy)"),
        (("-o", f"runs/{parent}"), "exists already and is not an update"),
        (("-o", "elsewhere"), "must lie beside it"),
        (("--policy", "all"), "has no language model; use frozen or encoder"),
    ):
        done = call(folder, "update", parent, "new.csv", *arguments)
        assert done.returncode == 2, done.stderr
        assert said in done.stderr


def test_an_encoder_that_tuning_trained_is_refused(folder: Path) -> None:
    done = call(folder, "update", run_of(folder, "t1").name, "new.csv")
    assert done.returncode == 1
    assert "its tuning trained the encoder (tuning: t1)" in done.stderr
