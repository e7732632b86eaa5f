"""`evaluate.ranking` through the command line, recomputed user by user from the data and the finished models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from generated import call, collm, write_data

from collm.registry import default_registry
from collm.trained.model import TrainedModel
from collm.trained.opened import open_run

SUITE = """\
name: ranked
base:
  name: ranked
  seed: 0
  dataset: {name: movielens-small, path: data, limit: {valid: 60}}
  history: {max_items: 3}
  encoder: {name: mf-bias, embedding_size: 4, fit: {epochs: 2, batch_size: 64}}
  backbone: {name: tiny, dtype: float32}
  prompt: {name: movie}
  tuning:
    name: default
    batch_size: 4
    max_rows: 16
    text: &step {epochs: 1, warmup_steps: 1, validations_per_epoch: 1}
    collaborative: *step
  evaluate:
    resamples: 50
    ranking: {candidates: {sample: 8}, users: 12, shortlist: 5, metrics: [hr@3, ndcg@3, mrr]}
runs:
  collm: {}
  whole: {evaluate.ranking.candidates: all}
  every: {evaluate.ranking.shortlist: 0}
  mf-bias: {backbone: null, prompt: null, tuning: null}
  sasrec: {backbone: null, prompt: null, tuning: null, encoder: {name: sasrec, embedding_size: 4, fit: {epochs: 1}}}
  din: {backbone: null, prompt: null, tuning: null, encoder: {name: din, embedding_size: 4, fit: {epochs: 1}}}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("ranked")
    write_data(root / "data")
    (root / "suite.yaml").write_text(SUITE, encoding="utf-8")
    runs = json.loads(collm(root, "run", "suite.yaml", "--threads", "1", "--json"))["runs"]
    return root, {each["run"]: each for each in runs}


def opened(root: Path, run: dict[str, Any]) -> TrainedModel:
    return open_run(root / run["run_dir"], cache_dir=root / "cache", registry=default_registry(), threads=1)


def table_of(root: Path, run: dict[str, Any], protocol: str, method: str = "") -> pl.DataFrame:
    table = pl.read_parquet(root / run["run_dir"] / "ranking.parquet")
    return table.filter((pl.col("protocol") == protocol) & (pl.col("method") == method))


def questions(root: Path) -> dict[str, tuple[int, set[str], set[str]]]:
    """User -> moment, positives, items met before, read from the files with the run's own split."""
    (scores,) = root.glob("runs/ranked-mf-bias-*/scores.parquet")
    held = {(r["user"], r["item"]): r["split"] for r in pl.read_parquet(scores).iter_rows(named=True)}
    rows = pl.read_csv(root / "data" / "ratings.csv", schema_overrides={"userId": pl.String, "movieId": pl.String})
    found = {}
    for (user,), own in rows.group_by("userId"):
        each = [
            (row["movieId"], row["timestamp"], row["rating"] >= 4, held.get((user, row["movieId"]), "train"))
            for row in own.iter_rows(named=True)
        ]
        liked = [(item, time) for item, time, label, split in each if split == "test" and label]
        if not liked:
            continue
        moment = min(time for _, time in liked)
        met = {item for item, time, _, split in each if split != "test" or time < moment}
        if positives := {item for item, _ in liked} - met:
            found[str(user)] = moment, positives, met
    return found


def ranks_by(model: TrainedModel, user: str, items: list[str], moment: int) -> dict[str, int]:
    logits = model.pair_logits([user] * len(items), items, [moment] * len(items))
    return {item: int((logits > logit).sum()) + 1 for item, logit in zip(items, logits, strict=True)}


@pytest.mark.parametrize("name", ["mf-bias", "sasrec", "din"])
def test_encoders_rank_the_whole_catalogue(finished: tuple[Path, dict[str, Any]], name: str) -> None:
    root, runs = finished
    model, table = opened(root, runs[name]), table_of(root, runs[name], "all")
    asked = questions(root)
    users = table["user"].unique().to_list()
    assert len(users) == 12
    hits, reciprocal = [], []
    for user in users:
        moment, positives, met = asked[user]
        own = table.filter(pl.col("user") == user)
        assert set(own.filter(pl.col("label") == 1)["item"]) == positives
        items = [item for item in model.data.item_ids[1:] if item not in met]
        assert own["candidates"].unique().to_list() == [len(items)]
        assert own["timestamp"].unique().to_list() == [moment]
        ranks = ranks_by(model, user, items, moment)
        # Scores of two ways of computing agree to rounding alone, so neighbours may change places.
        gaps = [abs(row["rank"] - ranks[row["item"]]) for row in own.iter_rows(named=True)]
        assert max(gaps) <= 1
        assert np.mean(gaps) < 0.2
        best = min(own.filter(pl.col("label") == 1)["rank"])
        hits.append(best <= 3)
        reciprocal.append(1 / best)
    records = runs[name]["ranking"]["test"]["all"]["all"]
    assert records["hr@3"]["value"] == pytest.approx(np.mean(hits))
    assert records["mrr"]["value"] == pytest.approx(np.mean(reciprocal))
    assert records["mrr"]["n"] == 12


@pytest.mark.parametrize(
    ("name", "protocol", "size"), [("collm", "8 uniform", 5), ("whole", "all", 5), ("every", "8 uniform", 0)]
)
def test_a_language_model_ranks_the_short_list(
    finished: tuple[Path, dict[str, Any]], name: str, protocol: str, size: int
) -> None:
    root, runs = finished
    model, table = opened(root, runs[name]), table_of(root, runs[name], protocol)
    encoder, asked = opened(root, runs["mf-bias"]), questions(root)
    listed = table_of(root, runs["mf-bias"], "8 uniform")
    inside = []
    for user in table["user"].unique().to_list():
        moment, positives, met = asked[user]
        own = table.filter(pl.col("user") == user).sort("rank")
        if protocol == "all":
            items = [item for item in model.data.item_ids[1:] if item not in met]
        else:
            # Fewer than ten candidates: the table of the encoder's own run holds them all.
            items = listed.filter(pl.col("user") == user)["item"].to_list()
            assert len(items) == 8 + len(positives) or len(items) < own["candidates"][0]
        first = ranks_by(encoder, user, items, moment)
        shortlist = [item for item in items if not size or first[item] <= size]
        inside.append(len(positives & set(shortlist)) / len(positives))
        ranks = ranks_by(model, user, shortlist, moment)
        for row in own.iter_rows(named=True):
            if row["score"] is None:
                assert row["item"] not in ranks
                assert row["rank"] > size
            elif row["item"] in ranks:
                assert abs(row["rank"] - ranks[row["item"]]) <= 1
    facts = runs[name]["ranking_facts"]["test"][protocol]
    assert facts["shortlist"] == ("mf-bias" if size else "nothing")
    assert facts["shortlist_recall"] == pytest.approx(np.mean(inside), abs=0.05)
    assert facts["users"] == 12
    note = "the most that it can put first" in " ".join(runs[name]["notes"])
    assert note == bool(size)


def test_floors_stand_beside_every_run(finished: tuple[Path, dict[str, Any]]) -> None:
    root, runs = finished
    floors = runs["collm"]["ranking_floors"]["test"]
    assert set(floors) == {"all", "8 uniform"}
    assert set(floors["all"]["all"]) == {"item-knn", "popularity", "recent-popularity"}
    assert set(runs["collm"]["ranking"]["test"]) == {"8 uniform"}
    assert set(runs["mf-bias"]["ranking"]["test"]) == {"all", "8 uniform"}
    assert floors == runs["mf-bias"]["ranking_floors"]["test"]
    popular = table_of(root, runs["mf-bias"], "all", "popularity")
    model = opened(root, runs["mf-bias"])
    counts = dict(
        zip(
            model.data.item_ids,
            np.bincount(
                model.data.rows("train").item[model.data.rows("train").label == 1], minlength=model.data.n_items + 1
            ),
            strict=True,
        )
    )
    for (_,), own in popular.group_by("user"):
        in_order = [counts[item] for item in own.sort("rank")["item"]]
        assert in_order == sorted(in_order, reverse=True)


def test_reports_show_both_kinds_of_tables(finished: tuple[Path, dict[str, Any]]) -> None:
    root, runs = finished
    folders = [runs[name]["run_dir"] for name in ("collm", "every", "mf-bias", "sasrec")]
    shown = collm(root, "report", *folders, "--csv", "r.csv", "--latex", "r.tex", "--html", "r.html")
    assert "test, all rows" in shown
    assert "test, ranking, all items, all positives" in shown
    assert "test, ranking, candidates: 8 uniform, warm positives" in shown
    latex, page = (root / "r.tex").read_text(), (root / "r.html").read_text()
    assert r"\label{tab:ranking-all-results-all}" in latex
    assert r"\label{tab:ranking-8-uniform-comparisons}" in latex
    assert "ranking, candidates: 8 uniform, all positives" in page
    lines = pl.read_csv(root / "r.csv", infer_schema=False)
    found = lines.filter(
        (pl.col("candidates") == "8 uniform") & (pl.col("method") == "collm") & (pl.col("slice") == "all")
    )
    stored = runs["collm"]["ranking"]["test"]["8 uniform"]["all"]
    for row in found.iter_rows(named=True):
        assert float(row["value"]) == pytest.approx(stored[row["metric"]]["value"], abs=1e-12)
        assert float(row["low"]) == pytest.approx(stored[row["metric"]]["low"], abs=1e-9)
    assert set(found["metric"]) == {"hr@3", "ndcg@3", "mrr"}


def test_other_metrics_and_seeds_reuse_what_is_ranked(finished: tuple[Path, dict[str, Any]]) -> None:
    root, runs = finished
    before = {path.name for path in (root / "runs" / "stages").iterdir()}
    again = json.loads(
        collm(root, "run", "suite.yaml", "--only", "mf-bias", "--set", "evaluate.ranking.metrics=[recall@2]", "--json")
    )["runs"][0]
    new = {path.name.partition("-")[0] for path in (root / "runs" / "stages").iterdir() if path.name not in before}
    assert new == {"metrics"}
    assert set(again["ranking"]["test"]["all"]["all"]) == {"recall@2"}
    assert again["metrics"] == runs["mf-bias"]["metrics"]


def test_a_run_with_candidates_of_a_file_is_opened_again(finished: tuple[Path, dict[str, Any]]) -> None:
    root, runs = finished
    table = table_of(root, runs["mf-bias"], "8 uniform")
    table.select("user", "item").write_csv(root / "candidates.csv")
    setting = ("--set", "evaluate.ranking.candidates={file: candidates.csv}")
    found = json.loads(collm(root, "run", "suite.yaml", "--only", "mf-bias", *setting, "--json"))["runs"][0]
    assert set(found["ranking"]["test"]) == {"all", "file"}
    # The file holds the first ten of each list and all positives.
    assert found["ranking"]["test"]["all"] == runs["mf-bias"]["ranking"]["test"]["all"]
    best = json.loads(collm(root, "recommend", found["run_dir"], "--user", "1", "--json"))
    assert best["items"]
    different = root / "candidates.csv"
    different.write_text(different.read_text().replace("user,item", "user,film"), encoding="utf-8")
    done = call(root, "run", "suite.yaml", "--only", "mf-bias", *setting, "--set", "encoder.embedding_size=5")
    assert "candidates.csv: lacks the columns item; it has user, film" in done.stderr
    assert "fit_encoder mf-bias" not in done.stderr


def test_rankings_of_another_split_than_that_of_the_rows_are_shown(finished: tuple[Path, dict[str, Any]]) -> None:
    root, _ = finished
    setting = ("--set", "evaluate.ranking.splits=[valid]")
    assert "valid, ranking, all items, all positives" in collm(root, "run", "suite.yaml", "--only", "mf-bias", *setting)
    shown = collm(root, "report", "suite.yaml", "--only", "mf-bias", *setting)
    assert "test, all rows" in shown
    assert "valid, ranking, all items, all positives" in shown


def test_two_runs_are_compared_in_what_both_ranked(finished: tuple[Path, dict[str, Any]]) -> None:
    root, runs = finished
    found = json.loads(collm(root, "runs", "diff", runs["mf-bias"]["run_dir"], runs["sasrec"]["run_dir"], "--json"))
    record = found["rankings"]["test"]["all"]["mrr"]
    stored = [runs[name]["ranking"]["test"]["all"]["all"]["mrr"]["value"] for name in ("mf-bias", "sasrec")]
    assert [record["first"], record["second"]] == pytest.approx(stored)
    assert record["difference"] == pytest.approx(stored[1] - stored[0])
    shown = call(root, "runs", "diff", runs["mf-bias"]["run_dir"], runs["collm"]["run_dir"], COLUMNS="160").stdout
    assert "test, ranking 8 uniform" in shown


def test_studies_rank_nothing_and_say_so(finished: tuple[Path, dict[str, Any]]) -> None:
    root, _ = finished
    base = "name: b\ndataset: {name: movielens-small, path: data}\nencoder: {name: mf-bias, fit: {epochs: 1}}\n"
    (root / "base.yaml").write_text(f"{base}evaluate: {{ranking: {{metrics: [hr@3]}}}}\n", encoding="utf-8")
    study = (
        "name: s\nbase: base.yaml\nstudy: {objective: OBJECTIVE, trials: 1, search: {encoder.embedding_size: [2, 4]}}\n"
    )
    (root / "study.yaml").write_text(study.replace("OBJECTIVE", "valid.hr@3"), encoding="utf-8")
    done = call(root, "study", "study.yaml")
    assert "metrics of evaluate.ranking are not objectives, since trials rank nothing" in done.stderr
    before = set((root / "runs" / "stages").glob("rank-*"))
    (root / "study.yaml").write_text(study.replace("OBJECTIVE", "valid.auc"), encoding="utf-8")
    collm(root, "study", "study.yaml", "--threads", "1")
    assert set((root / "runs" / "stages").glob("rank-*")) == before
