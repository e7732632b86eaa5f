"""Several encoders, context vectors and words through the command line: run, prompt, score, recommend, export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from generated import call, collm, write_data
from safetensors.torch import load_file

SUITE = """\
name: named
base:
  name: named
  seed: 0
  dataset: {name: movielens-small, path: data, item_attributes: [genres], limit: {valid: 40, test: 60}}
  history: {max_items: 3}
  encoders:
    cf: {name: mf-bias, embedding_size: 4, fit: {epochs: 2, batch_size: 64}}
    genre: {name: attribute-tokens, item: genres}
  backbone: {name: tiny, dtype: float32}
  prompt:
    name: custom
    template: "Liked: {history+item.cf}.[[ Taste {user.cf}.]] New: {target}[[ {item.cf} of {item.genre}]]? #Answer:"
  tuning: &tuning
    name: default
    batch_size: 4
    max_rows: 16
    text: &step {epochs: 1, warmup_steps: 1, validations_per_epoch: 1}
    collaborative: *step
  evaluate: {resamples: 20}
runs:
  two: {}
  t1: {tuning: {name: t1, batch_size: 4, max_rows: 16, text: *step, collaborative: *step}}
  t2: {tuning: {name: t2, batch_size: 4, max_rows: 16, text: *step, collaborative: *step}}
  t3: {tuning: {name: t3, batch_size: 4, max_rows: 16, text: *step, collaborative: *step}}
  one:
    encoders: null
    encoder: {name: mf-bias, embedding_size: 4, fit: {epochs: 2, batch_size: 64}}
    prompt.template: "Liked: {history}.[[ Taste {user}.]] New: {target}[[ with {item}]]? #Answer:"
  words:
    encoders: null
    encoder: {name: binllm, bits: 16, encoder: {name: mf-bias, embedding_size: 4, fit: {epochs: 2}}, fit: {epochs: 2}}
    prompt.template: "Liked: {history}.[[ Taste {user}.]] New: {target}[[ with {item}]]? #Answer:"
    tuning: {name: words, batch_size: 4, max_rows: 16, text: *step, collaborative: *step}
  eight-bits:
    encoders: null
    mapping.tokens: 2
    encoder: {name: binllm, bits: 8, encoder: {name: mf-bias, embedding_size: 4, fit: {epochs: 2}}, fit: {epochs: 2}}
    prompt.template: "Liked: {history}.[[ Taste {user}.]] New: {target}[[ with {item}]]? #Answer:"
    tuning: {name: words, batch_size: 4, max_rows: 16, text: *step, collaborative: *step}
  words-once:
    encoders: null
    encoder: {name: binllm, bits: 16, encoder: {name: mf-bias, embedding_size: 4, fit: {epochs: 2}}, fit: {epochs: 2}}
    prompt.template: "Liked: {history}.[[ Taste {user}.]] New: {target}[[ with {item}]]? #Answer:"
    tuning: {name: words-once, batch_size: 4, max_rows: 16, collaborative: *step}
  words-and-vectors:
    encoders.genre: null
    encoders.bits: {name: binllm, bits: 8, encoder: {name: mf-bias, embedding_size: 4, fit: &f {epochs: 2}}, fit: *f}
    prompt.template: "Liked: {history}.[[ Taste {user.cf}.]] New: {target}[[ with {item.cf} {item.bits}]]? #Answer:"
"""


Finished = tuple[Path, dict[str, Any]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    root = tmp_path_factory.mktemp("named")
    write_data(root / "data")
    (root / "suite.yaml").write_text(SUITE, encoding="utf-8")
    runs = json.loads(collm(root, "run", "suite.yaml", "--threads", "1", "--json"))["runs"]
    return root, {each["run"]: each for each in runs}


def test_the_text_step_and_the_fitted_encoder_are_those_of_one_encoder(finished: Finished) -> None:
    _, runs = finished
    two, one = runs["two"]["stages"], runs["one"]["stages"]
    assert two["fit_encoder.cf"] == one["fit_encoder"]
    assert "fit_encoder.genre" in two
    assert two["tune_1"] == one["tune_1"] == runs["words"]["stages"]["tune_1"]
    assert len({each["stages"]["tune_2"] for name, each in runs.items() if "tune_2" in each["stages"]}) == 7
    assert set(runs["two"]["facts"]) >= {"encoder.cf", "encoder.genre"}


def test_settings_of_a_mapping_that_is_not_there_are_named(finished: Finished) -> None:
    _, runs = finished
    said = "Nothing is mapped (binllm gives no vectors), so mapping.tokens has no effect."
    assert said in runs["eight-bits"]["notes"]
    assert not any("Nothing is mapped" in note for name in ("two", "words") for note in runs[name]["notes"])


def test_every_strategy_scores_every_row(finished: Finished) -> None:
    root, runs = finished
    logits = {name: pl.read_parquet(root / each["run_dir"] / "scores.parquet")["logit"] for name, each in runs.items()}
    assert all(each.is_finite().all() for each in logits.values())
    found = list(logits.values())
    assert all(not np.allclose(one, two, atol=1e-5) for place, one in enumerate(found) for two in found[:place])


def test_the_prompt_shows_slots_by_name_and_words_as_words(finished: Finished) -> None:
    root, runs = finished
    scores = pl.read_parquet(root / runs["two"]["run_dir"] / "scores.parquet")
    row = str(scores.filter(pl.col("split") == "test")["row"][-1])
    shown = json.loads(collm(root, "prompt", "suite.yaml", "--key", "two", "--row", row, "--json"))
    hybrid = shown["variants"]["hybrid"]
    assert set(hybrid["slots"]) == {"history.cf", "user.cf", "item.cf", "item.genre"}
    assert hybrid["text"].endswith("<item.cf> of <item.genre>? #Answer:")
    shown = json.loads(collm(root, "prompt", "suite.yaml", "--key", "words", "--row", row, "--json"))
    exported = root / "exported-words"
    collm(root, "export", runs["words"]["run_dir"], str(exported))
    users, items = pl.read_parquet(exported / "users.parquet"), pl.read_parquet(exported / "items.parquet")
    user = users.filter(pl.col("id") == shown["user"])["words"][0]
    item = items.filter(pl.col("id") == shown["item"])["words"][0]
    assert f" Taste {user}." in shown["variants"]["hybrid"]["text"]
    assert f" with {item}? #Answer:" in shown["variants"]["hybrid"]["text"]
    assert not (exported / "mapping.safetensors").exists()


@pytest.mark.parametrize("name", ["two", "words", "words-and-vectors"])
def test_stored_scores_come_back_from_the_trained_model(finished: Finished, tmp_path: Path, name: str) -> None:
    root, runs = finished
    stored = pl.read_parquet(root / runs[name]["run_dir"] / "scores.parquet").filter(pl.col("split") == "test")
    ratings = pl.read_csv(root / "data" / "ratings.csv", schema_overrides={"userId": pl.String, "movieId": pl.String})
    times = ratings.select(
        pl.col("userId").alias("user"), pl.col("movieId").alias("item"), pl.col("timestamp").alias("time")
    )
    pairs = stored.select("user", "item", "logit").join(times, on=["user", "item"], maintain_order="left")
    pairs.select("user", "item", "time").write_csv(tmp_path / "pairs.csv")
    collm(root, "score", runs[name]["run_dir"], str(tmp_path / "pairs.csv"), "-o", str(tmp_path / "out.csv"))
    scored = pl.read_csv(tmp_path / "out.csv")
    assert np.abs(scored["logit"].to_numpy() - pairs["logit"].to_numpy()).max() < 1e-4
    asked = (
        "recommend",
        runs[name]["run_dir"],
        "--user",
        "3",
        "-k",
        "5",
        "--shortlist",
        "8",
        "--include-seen",
        "--json",
    )
    found = json.loads(collm(root, *asked, "--include-seen", "--json"))
    assert (len(found["items"]), found["shortlist_by"]) == (5, "encoder")


def test_an_export_names_what_belongs_to_which_encoder(finished: Finished) -> None:
    root, runs = finished
    folder = root / "exported-two"
    collm(root, "export", runs["two"]["run_dir"], str(folder))
    assert set(load_file(folder / "vectors.safetensors")) == {"user.cf", "item.cf", "item.genre"}
    assert {name.partition(".")[0] for name in load_file(folder / "mapping.safetensors")} == {"cf"}
    assert {name.partition(".")[0] for name in load_file(folder / "encoder.safetensors")} == {"cf", "genre"}
    assert set(json.loads((folder / "collm.json").read_text(encoding="utf-8"))["encoders"]) == {"cf", "genre"}


def test_a_repeated_run_reuses_everything_and_reports_read_it(finished: Finished) -> None:
    root, runs = finished
    again = json.loads(collm(root, "run", "suite.yaml", "--threads", "1", "--json"))["runs"]
    assert [each["run_dir"] for each in again] == [each["run_dir"] for each in runs.values()]
    assert "two" in collm(root, "report", runs["two"]["run_dir"])


@pytest.mark.parametrize(
    ("key", "override", "said"),
    [
        ("two", "prompt={name: movie}", "the slot {user} names no encoder; `encoders` has cf, genre"),
        ("two", "encoders.more={name: mf}", "no slot takes encoder 'more'"),
        ("two", "encoders.genre={name: attribute-tokens, user: age}", "the dataset gives no attribute 'age' of users"),
        ("words", "tuning.name=default", "binllm writes words into the prompt and has no vectors to map"),
        ("one", "tuning.name=words", "has no mapping for the vectors of mf-bias"),
        ("two", "tuning={name: words}", "has no mapping for the vectors of mf-bias, attribute-tokens"),
    ],
)
def test_mistakes_are_sentences(finished: Finished, tmp_path: Path, key: str, override: str, said: str) -> None:
    root, runs = finished
    spec = root / runs[key]["run_dir"] / "spec.yaml"
    done = call(root, "run", str(spec), "--set", override, "--runs-dir", str(tmp_path))
    assert done.returncode in (1, 2), done.stdout
    assert said in " ".join(done.stderr.split())


def test_the_order_of_encoders_changes_nothing(tmp_path: Path) -> None:
    """Settings that differ in the order of names alone have one fingerprint, so they must have one result."""
    write_data(tmp_path / "data")
    lines = ["    cf: {name: mf-bias, embedding_size: 4, fit: {epochs: 2, batch_size: 64}}"]
    lines += ["    also: {name: mf, embedding_size: 4, fit: {epochs: 1, batch_size: 64}}"]
    genre = "    genre: {name: attribute-tokens, item: genres}"
    text = SUITE.replace("[[ {item.cf} of", "[[ {item.cf} {item.also} of")
    found = []
    for name, block in (("one", [*lines, genre]), ("two", [genre, *reversed(lines)])):
        head, _, rest = text.partition(lines[0])
        (tmp_path / f"{name}.yaml").write_text(head + "\n".join(block) + rest.partition(genre)[2], encoding="utf-8")
        arguments = ("run", f"{name}.yaml", "--only", "t1", "--runs-dir", name, "--threads", "1", "--json")
        run_dir = Path(json.loads(collm(tmp_path, *arguments))["runs"][0]["run_dir"])
        found.append((run_dir.name, pl.read_parquet(tmp_path / run_dir / "scores.parquet")["logit"].to_list()))
    assert found[0] == found[1]
