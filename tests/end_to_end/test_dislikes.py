"""Prompts with disliked items through the command line: run, prompt, score, recommend, rank, export, bench, checks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from generated import call, collm, write_data

STEP = "{epochs: 1, warmup_steps: 1, validations_per_epoch: 1}"
SLOTS = "Liked: {history+item}. Not: {disliked+item}.[[ Taste {user}.]] New: {target}[[ with {item}]]? #Answer:"
RATED = "Rated: {rated}.[[ Taste {user}.]] New: {target}[[ with {item}]]? #Answer:"
TEXT = f"{{name: text-only, batch_size: 4, max_rows: 16, text: {STEP}}}"
BOTH = "{include: both, max_items: 3, max_disliked: 2}"
SUITE = f"""\
name: dislikes
base:
  name: dislikes
  seed: 0
  dataset: {{name: movielens-small, path: data, limit: {{valid: 40, test: 60}}}}
  history: {BOTH}
  encoder: {{name: mf-bias, embedding_size: 4, fit: {{epochs: 2, batch_size: 64}}}}
  backbone: {{name: tiny, dtype: float32}}
  prompt: {{name: movie}}
  tuning: {{name: default, batch_size: 4, max_rows: 16, prefix_cache_gb: 0.1, text: {STEP}, collaborative: {STEP}}}
  evaluate: {{resamples: 20}}
runs:
  likes: {{history.include: liked, history.max_disliked: null}}
  both: {{}}
  text-both: {{encoder: null, tuning: {TEXT}}}
  tallrec: {{encoder: null, tuning: {TEXT}, prompt: {{name: tallrec}}}}
  shared: {{encoder: null, tuning: {TEXT}, history.max_rated: 4, history.max_items: 4, history.max_disliked: null}}
  rated: {{encoder: null, tuning: {TEXT}, history.ages: true, prompt: {{name: custom, template: '{RATED}'}}}}
  slots: {{prompt: {{name: custom, template: '{SLOTS}'}}, history.ages: true}}
  sasrec: {{encoder: {{name: sasrec, fit: {{epochs: 1}}}}, prompt: {{name: custom, template: '{SLOTS}'}}}}
  din: {{encoder: {{name: din, fit: {{epochs: 1}}}}, history.ages: true}}
  t1: {{tuning: {{name: t1, batch_size: 4, max_rows: 16, text: {STEP}, collaborative: {STEP}}}}}
  t3: {{tuning: {{name: t3, batch_size: 4, max_rows: 16, text: {STEP}, collaborative: {STEP}}}}}
  lists: {{tuning.loss: softmax, tuning.negatives: 2, history.ages: true}}
  examples: {{encoder: null, tuning: {{name: none, examples: 2}}, backbone.max_prompt_tokens: 700}}
  ranked: {{encoder: null, tuning: {TEXT}, evaluate.ranking: {{candidates: {{sample: 5}}}}}}
"""
Finished = tuple[Path, dict[str, Any]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    root = tmp_path_factory.mktemp("dislikes")
    write_data(root / "data")
    # Its times are of 1970; these are dates, the rows of a user about half a day apart.
    path = root / "data" / "ratings.csv"
    frame = pl.read_csv(path).with_columns(timestamp=900_000_000 + (pl.col("timestamp") - 1_000_000) * 432)
    frame.write_csv(path)
    (root / "suite.yaml").write_text(SUITE, encoding="utf-8")
    runs = json.loads(collm(root, "run", "suite.yaml", "--threads", "1", "--json"))["runs"]
    return root, {each["run"]: each for each in runs}


def scores(finished: Finished, name: str) -> pl.DataFrame:
    root, runs = finished
    return pl.read_parquet(root / runs[name]["run_dir"] / "scores.parquet")


def test_every_strategy_scores_every_row_and_dislikes_are_in_the_scores(finished: Finished) -> None:
    _, runs = finished
    logits = {name: scores(finished, name)["logit"].to_numpy() for name in runs}
    assert all(np.isfinite(each).all() for each in logits.values())
    assert not np.allclose(logits["likes"], logits["both"], atol=1e-4)
    assert not np.allclose(logits["text-both"], logits["rated"], atol=1e-4)


def test_data_and_encoders_are_shared_with_a_run_of_likes(finished: Finished) -> None:
    _, runs = finished
    for stage in ("prepare_data", "fit_encoder"):
        assert runs["likes"]["stages"][stage] == runs["both"]["stages"][stage]
    assert runs["likes"]["stages"]["tune_1"] != runs["both"]["stages"]["tune_1"]


def test_notes_say_what_prompts_list(finished: Finished) -> None:
    _, runs = finished
    (said,) = [note for note in runs["rated"]["notes"] if "history.include" in note]
    assert said.startswith("Prompts list up to 3 liked and 2 disliked items of the user (history.include: both; ")
    assert any("history.ages" in note for note in runs["rated"]["notes"])
    assert not any("disliked items" in note or "history.ages" in note for note in runs["likes"]["notes"])


def expected_lists(finished: Finished, row: int) -> tuple[list[str], list[str], list[str], str]:
    """Liked titles, disliked titles and both with labels of a source row, from the files; and its own title."""
    root, _ = finished
    ratings = pl.read_csv(root / "data" / "ratings.csv").with_row_index("row").to_dicts()
    asked = ratings[row]
    past = [each for each in ratings if each["userId"] == asked["userId"] and each["timestamp"] < asked["timestamp"]]
    past.sort(key=lambda each: each["timestamp"])
    liked = [each for each in past if each["rating"] >= 4][-3:]
    disliked = [each for each in past if each["rating"] < 4][-2:]
    both = sorted([*liked, *disliked], key=lambda each: each["timestamp"])

    def title(each: dict[str, Any]) -> str:
        return f'"Film, The {each["movieId"]} (1994)"'

    def label(each: dict[str, Any]) -> str:
        days = (asked["timestamp"] - each["timestamp"]) // 86_400
        age = "today" if not days else f"{days} day{'s' if days > 1 else ''} ago"
        age = age if days < 7 else f"{days // 7} week{'s' if days > 13 else ''} ago"
        return f"{title(each)} ({'liked' if each in liked else 'disliked'}, {age})"

    return (
        [title(each) for each in liked],
        [title(each) for each in disliked],
        [label(each) for each in both],
        title(asked),
    )


def test_prompts_are_shown_with_both_lists(finished: Finished) -> None:
    root, _ = finished
    row = int(scores(finished, "both").filter(pl.col("split") == "test")["row"][-5])
    liked, disliked, both, target = expected_lists(finished, row)
    shown = {}
    for name in ("both", "tallrec", "rated", "slots"):
        found = json.loads(collm(root, "prompt", "suite.yaml", "--key", name, "--row", str(row), "--json"))
        shown[name] = found["variants"]
        assert found["variants"]["text"]["history_titles"] == len(both)
    found = json.loads(collm(root, "prompt", "suite.yaml", "--key", "shared", "--row", str(row), "--json"))
    assert found["variants"]["text"]["history_titles"] == 4
    text, latest = found["variants"]["text"]["text"], "".join(both[-4:])
    assert all((each in text) == (each in latest) for each in (*liked, *disliked) if each != target)
    likes, dislikes = ", ".join(liked) or "none so far", ", ".join(disliked) or "none so far"
    start = f"A user has given high ratings to the following movies: {likes}. The user has given low ratings to the "
    assert f"{start}following movies: {dislikes}. Using all available" in shown["both"]["text"]["text"]
    lists = f"User Preference: {', '.join(liked)}\nUser Unpreference: {', '.join(disliked)}\nWhether the user"
    assert lists in shown["tallrec"]["text"]["text"]
    assert f"Rated: {', '.join(both) or 'none so far'}. New: {target}?" in shown["rated"]["text"]["text"]
    slots = shown["slots"]["hybrid"]["slots"]
    assert (len(slots.get("history", [])), len(slots.get("disliked", []))) == (len(liked), len(disliked))


@pytest.mark.parametrize("name", ["both", "slots"])
def test_stored_scores_come_back_from_the_trained_model(finished: Finished, name: str, tmp_path: Path) -> None:
    root, runs = finished
    stored = scores(finished, name).filter(pl.col("split") == "test")
    pairs = stored.select("user", "item", pl.col("timestamp").alias("time"))
    pairs.write_csv(tmp_path / "pairs.csv")
    collm(root, "score", runs[name]["run_dir"], str(tmp_path / "pairs.csv"), "-o", str(tmp_path / "out.csv"))
    found = pl.read_csv(tmp_path / "out.csv")["logit"].to_numpy()
    assert np.abs(found - stored["logit"].to_numpy()).max() < 1e-4
    pairs.select("user", "item").write_csv(tmp_path / "without.csv")
    done = call(root, "score", runs[name]["run_dir"], str(tmp_path / "without.csv"))
    assert ("without a time that counts from the dataset's last row" in done.stderr) == (name != "both")


def test_recommend_names_the_dislikes_that_the_prompt_shows(finished: Finished) -> None:
    root, runs = finished
    found = json.loads(collm(root, "recommend", runs["both"]["run_dir"], "--user", "2", "-k", "2", "--json"))
    assert (len(found["history"]), len(found["disliked"])) == (3, 2)
    assert "disliked: Film, The" in collm(root, "recommend", runs["both"]["run_dir"], "--user", "2", "-k", "2")
    shared = json.loads(collm(root, "recommend", runs["shared"]["run_dir"], "--user", "2", "-k", "2", "--json"))
    assert len(shared["history"]) + len(shared["disliked"]) == 4
    assert json.loads(collm(root, "recommend", runs["likes"]["run_dir"], "--user", "2", "--json"))["disliked"] == []


def test_an_export_says_why_it_has_no_script(finished: Finished, tmp_path: Path) -> None:
    root, runs = finished
    collm(root, "export", runs["slots"]["run_dir"], str(tmp_path / "out"))
    readme = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "`score.py` is left out: the prompt lists disliked items (history.include: both)" in readme
    assert not (tmp_path / "out" / "score.py").exists()
    card = json.loads((tmp_path / "out" / "collm.json").read_text("utf-8"))["prompt"]
    assert card["template"].startswith("Liked: {history+item}. Not: {disliked+item}.")
    assert (card["disliked_items"], card["empty_disliked"], card["ages"][0]) == (2, "none so far", "today")
    assert set(card["slots"]) == {"history+item", "disliked+item", "user", "item"}
    rows = [json.loads(line) for line in (tmp_path / "out" / "probe.jsonl").read_text("utf-8").splitlines()]
    assert all([item for item, label, _ in row["past"] if label] == row["history"] for row in rows)
    assert any(not label for row in rows for _, label, _ in row["past"])


def test_bench_data_check_and_describe(finished: Finished) -> None:
    root, _ = finished
    (root / "one.yaml").write_text(
        f"name: one\ndataset: {{name: movielens-small, path: data, limit: {{test: 60}}}}\nhistory: {BOTH}\n"
        f"backbone: {{name: tiny}}\nprompt: {{name: movie}}\ntuning: {TEXT}\n",
        encoding="utf-8",
    )
    refused = call(root, "bench", "one.yaml")
    assert refused.returncode != 0
    assert "the plain loop writes liked titles alone" in refused.stderr
    checks = json.loads(collm(root, "data", "check", "one.yaml", "--json", "--resamples", "0"))
    likes = json.loads(collm(root, "data", "check", "suite.yaml", "--key", "likes", "--json", "--resamples", "0"))
    assert (checks["max_disliked"], likes.get("max_disliked")) == (2, None)

    def n_shown(found: dict[str, Any]) -> int:
        (check,) = [each for each in found["checks"] if each["name"] == "same-second"]
        return int(check["details"]["shown_items"]["test"]["of"])

    assert n_shown(checks) > n_shown(likes)
    described = json.loads(collm(root, "data", "describe", "one.yaml", "--json"))
    assert 'low ratings to the following movies: "Film' in described["longest_prompts"][0]["text"]
