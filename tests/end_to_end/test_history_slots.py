"""A prompt with slots in its history through the command line: run, prompt, score, recommend, export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from generated import collm, write_data

SUITE = """\
name: slots
base:
  name: slots
  seed: 0
  dataset: {name: movielens-small, path: data, limit: {valid: 40, test: 60}}
  history: {max_items: 3}
  encoder: {name: mf-bias, embedding_size: 4, fit: {epochs: 2, batch_size: 64}}
  backbone: {name: tiny, dtype: float32}
  prompt: {name: custom, template: "Liked: {history+item}.[[ Taste {user}.]] New: {target}[[ with {item}]]? #Answer:"}
  tuning:
    name: default
    batch_size: 4
    max_rows: 16
    prefix_cache_gb: 0.1
    text: &step {epochs: 1, warmup_steps: 1, validations_per_epoch: 1}
    collaborative: *step
  evaluate: {resamples: 20}
runs:
  llara: {}
  plain: {prompt.template: "Liked: {history}.[[ Taste {user}.]] New: {target}[[ with {item}]]? #Answer:"}
  two-tokens: {mapping.tokens: 2}
  sasrec: {encoder: {name: sasrec, fit: {epochs: 2}}}
  t1: {tuning: {name: t1, batch_size: 4, max_rows: 16, text: *step, collaborative: *step}}
  t3: {tuning: {name: t3, batch_size: 4, max_rows: 16, text: *step, collaborative: *step}}
  ui-token: {encoder: {name: id-tokens}}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("slots")
    write_data(root / "data")
    (root / "suite.yaml").write_text(SUITE, encoding="utf-8")
    runs = json.loads(collm(root, "run", "suite.yaml", "--threads", "1", "--json"))["runs"]
    return root, {run["run"]: run for run in runs}


def test_the_text_step_is_that_of_the_plain_prompt_and_the_rest_is_not(finished: tuple[Path, dict[str, Any]]) -> None:
    _, runs = finished
    assert runs["llara"]["stages"]["tune_1"] == runs["plain"]["stages"]["tune_1"]
    assert runs["llara"]["stages"]["tune_2"] != runs["plain"]["stages"]["tune_2"]


def test_every_strategy_scores_every_row(finished: tuple[Path, dict[str, Any]]) -> None:
    root, runs = finished
    logits = {name: pl.read_parquet(root / run["run_dir"] / "scores.parquet")["logit"] for name, run in runs.items()}
    assert all(each.is_finite().all() for each in logits.values())
    assert not np.allclose(logits["llara"], logits["plain"], atol=1e-4)


def test_the_prompt_shows_its_slots(finished: tuple[Path, dict[str, Any]]) -> None:
    root, runs = finished
    scores = pl.read_parquet(root / runs["llara"]["run_dir"] / "scores.parquet")
    row = scores.filter(pl.col("split") == "test")["row"][-1]
    shown = json.loads(collm(root, "prompt", "suite.yaml", "--key", "two-tokens", "--row", str(row), "--json"))
    hybrid, text = shown["variants"]["hybrid"], shown["variants"]["text"]
    assert len(hybrid["slots"]["history"]) == 2 * hybrid["history_titles"] > 0
    assert '"<history><history>' in hybrid["text"]
    assert "<history>" not in text["text"]


def test_stored_scores_come_back_from_the_trained_model(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    root, runs = finished
    stored = pl.read_parquet(root / runs["llara"]["run_dir"] / "scores.parquet").filter(pl.col("split") == "test")
    times = pl.read_csv(root / "data" / "ratings.csv", schema_overrides={"userId": pl.String, "movieId": pl.String})
    pairs = stored.select("user", "item", "logit").join(
        times.select(
            pl.col("userId").alias("user"), pl.col("movieId").alias("item"), pl.col("timestamp").alias("time")
        ),
        on=["user", "item"],
        maintain_order="left",
    )
    pairs.select("user", "item", "time").write_csv(tmp_path / "pairs.csv")
    collm(root, "score", runs["llara"]["run_dir"], str(tmp_path / "pairs.csv"), "-o", str(tmp_path / "out.csv"))
    scored = pl.read_csv(tmp_path / "out.csv")
    assert np.abs(scored["logit"].to_numpy() - pairs["logit"].to_numpy()).max() < 1e-4
    found = json.loads(collm(root, "recommend", runs["llara"]["run_dir"], "--user", "3", "-k", "5", "--json"))
    assert len(found["items"]) == 5
