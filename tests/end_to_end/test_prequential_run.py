"""Prequential evaluation through the command line: windows, policies, what they share, results and report."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from generated import call, collm, write_data
from safetensors.torch import load_file

SUITE = """\
name: windows
base:
  name: windows
  seed: 0
  dataset: {name: movielens-small, path: data, split: global-time}
  history: {max_items: 3}
  encoder: {name: online, inner: {name: mf-bias, embedding_size: 4, fit: {epochs: 2, batch_size: 64}}, fit: {epochs: 3}}
  backbone: {name: tiny, dtype: float32}
  prompt: {name: movie}
  tuning: &tuning
    name: default
    batch_size: 8
    max_rows: 24
    text: &step {epochs: 1, warmup_steps: 1, validations_per_epoch: 1}
    collaborative: *step
  evaluate: &evaluate {resamples: 20, protocol: prequential, window: 30 rows}
runs:
  plain: {evaluate.protocol: split, evaluate.window: null}
  frozen: {}
  encoder: {evaluate.policy: encoder}
  mapping: {evaluate.policy: encoder+mapping}
  everything: {evaluate.policy: all}
  text: {encoder: null, tuning: {name: text-only, batch_size: 8, max_rows: 24, text: *step}, evaluate.policy: all}
  alone: {backbone: null, prompt: null, tuning: null, evaluate.policy: encoder}
  solved: {encoder: {name: item-knn}, backbone: null, prompt: null, tuning: null, evaluate.policy: encoder}
"""
POLICIES = ("frozen", "encoder", "mapping", "everything")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("windows")
    write_data(root / "data")
    (root / "suite.yaml").write_text(SUITE, encoding="utf-8")
    collm(root, "run", "suite.yaml")
    return root


def folder(root: Path, name: str) -> Path:
    (found,) = (root / "runs").glob(f"windows-{name}-*")
    return found


def results(root: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder(root, name) / "results.json").read_text(encoding="utf-8"))
    return found


def scores(root: Path, name: str) -> pl.DataFrame:
    return pl.read_parquet(folder(root, name) / "scores.parquet").filter(pl.col("split") == "test")


def stages(root: Path, name: str, kind: str) -> list[Path]:
    """Folders of the stages of a kind that a run used, in order."""
    events = map(json.loads, (folder(root, name) / "events.jsonl").read_text(encoding="utf-8").splitlines())
    used = [event for event in events if event["event"] == "stage_finished" and event["stage"] == kind]
    return [root / "runs" / "stages" / f"{kind}-{event['fingerprint']}" for event in used]


ENCODER = "the encoder is trained on from its last weights on all rows seen"
NEW = "last weights on rows new since the last update (tuning.max_rows: 24 of them at most)"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("frozen", "nothing is updated"),
        ("encoder", f"{ENCODER}, one pass, without selection"),
        ("mapping", f"{ENCODER}, the mapping is trained on from its {NEW}, one pass, without selection"),
        ("everything", f"{ENCODER}, LoRA and the mapping are trained on from their {NEW}, one pass, without selection"),
        ("text", f"LoRA is trained on from its {NEW}, one pass, without selection"),
        ("alone", f"{ENCODER}, one pass, without selection"),
        ("solved", "the encoder is solved again on all rows seen"),
    ],
)
def test_notes_say_what_updates_do(root: Path, name: str, said: str) -> None:
    (note,) = (each for each in results(root, name)["notes"] if each.startswith("Prequential"))
    assert f"before each, {said}. Floors are fitted once" in note


def test_windows_hold_every_test_row_once_in_order_of_time(root: Path) -> None:
    table = scores(root, "encoder")
    windows = results(root, "encoder")["windows"]
    assert [each["number"] for each in windows] == list(range(len(windows)))
    assert sum(each["rows"] for each in windows) == table.height
    assert all(before["last"] < after["first"] for before, after in itertools.pairwise(windows))
    for each in windows:
        inside = table.filter(pl.col("window") == each["number"])
        assert (inside["timestamp"].min(), inside["timestamp"].max()) == (each["first"], each["last"])
        assert (inside.height, inside["user"].n_unique()) == (each["rows"], each["users"])
    assert [each["rows"] for each in windows][:-1] == [30] * (len(windows) - 1)


def test_frozen_is_the_model_of_the_split_protocol(root: Path) -> None:
    plain, frozen = scores(root, "plain"), scores(root, "frozen")
    assert frozen["logit"].equals(plain["logit"])
    assert results(root, "frozen")["metrics"] == results(root, "plain")["metrics"]
    assert results(root, "frozen")["stages"] == results(root, "plain")["stages"]
    assert "window" not in plain.columns
    for name in POLICIES:
        assert scores(root, name)["frozen_logit"].equals(plain["logit"])


def test_policies_with_the_same_past_share_their_stages(root: Path) -> None:
    refits = {name: stages(root, name, "fit_encoder") for name in ("encoder", "mapping", "everything", "alone")}
    n_windows = len(results(root, "encoder")["windows"])
    chains = [[path.name for path in found if (path / "trained_on.safetensors").exists()] for found in refits.values()]
    assert len(chains[0]) == n_windows == len(set(chains[0]))
    assert all(chain == chains[0] for chain in chains)
    facts = [json.loads((path / "stage.json").read_text(encoding="utf-8"))["facts"] for path in refits["encoder"]]
    rows = [each["train_rows"] for each in facts if each.get("continued")]
    counts = results(root, "encoder")["counts"]
    assert rows == [counts["train"] + counts["valid"] + 30 * number for number in range(n_windows)]


def test_only_what_the_policy_names_is_trained(root: Path) -> None:
    n_windows = len(results(root, "mapping")["windows"])
    steps = {
        "frozen": [],
        "encoder": [],
        "mapping": [("tune_2", "projector")],
        "everything": [("tune_1", "lora"), ("tune_2", "projector")],
        "text": [("tune_1", "lora")],
    }
    for name, expected in steps.items():
        for step in ("tune_1", "tune_2"):
            base, *updates = stages(root, name, step) or [None]
            assert len(updates) == (n_windows if step in dict(expected) else 0), (name, step)
            groups = {file.stem for path in updates for file in path.glob("*.safetensors")}
            assert groups >= ({dict(expected)[step]} if updates else set())
            assert (groups & {"projector", "lora", "encoder"}) <= {group for _, group in expected}
            weights = [load_file(path / f"{dict(expected)[step]}.safetensors") for path in [base, *updates] if updates]
            for before, after in itertools.pairwise(weights):
                assert any(not np.array_equal(before[key].numpy(), after[key].numpy()) for key in before)


def test_an_update_changes_scores_from_its_window_on(root: Path) -> None:
    for name in ("encoder", "mapping", "everything", "text", "alone"):
        table = scores(root, name)
        changed = table.group_by("window").agg((pl.col("logit") != pl.col("frozen_logit")).any()).sort("window")
        assert changed["logit"].all(), name


def test_results_hold_metrics_differences_and_seconds(root: Path) -> None:
    for each in results(root, "everything")["windows"]:
        for metric, gap in each["difference"].items():
            own, frozen = (each[name][metric]["value"] for name in ("metrics", "frozen"))
            assert gap["value"] == pytest.approx(own - frozen)
            assert gap["low"] <= gap["value"] <= gap["high"]
        assert each["update_seconds"] > 0
    for each in results(root, "frozen")["windows"]:
        assert each["update_seconds"] == 0
        assert all(gap["value"] == 0 for gap in each["difference"].values())


def test_a_repeated_run_does_nothing_and_a_missing_window_is_recomputed(root: Path) -> None:
    assert "finished before" in call(root, "run", "suite.yaml", "--only", "mapping").stderr
    before = scores(root, "mapping")
    lost = stages(root, "mapping", "evaluate")[-1]
    for path in (folder(root, "mapping") / "done", folder(root, "mapping") / "DONE"):
        path.unlink(missing_ok=True)
    for file in sorted(lost.rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    lost.rmdir()
    said = call(root, "run", "suite.yaml", "--only", "mapping").stderr
    assert said.count("working in") >= 1
    assert "fit_encoder" not in said
    assert scores(root, "mapping")["logit"].equals(before["logit"])


def test_the_report_shows_windows_and_differences(root: Path) -> None:
    shown = collm(root, "report", "suite.yaml", "--html", "r.html", "--csv", "r.csv", "--latex", "r.tex")
    assert "AUC by window" in shown
    shown = " ".join(shown.split())
    assert "Prequential evaluation: test is scored in" in shown
    assert "an update that moves all scores changes AUC over all windows" in shown
    assert "Updates before windows are not counted here but in the tables by window." in shown
    page = (root / "r.html").read_text(encoding="utf-8")
    assert 'id="windows"' in page
    assert "new users" in page
    ids = re.findall(r'<section id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert "AUC by window" in (root / "r.tex").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("evaluate={protocol: prequential}", "needs `window`"),
        ("evaluate={protocol: prequential, window: 3 fortnights}", "not a length of a window; give e.g. 500 rows"),
        ("evaluate={window: 1 month}", "go with protocol: prequential"),
        ("evaluate={protocol: prequential, window: 1 month, splits: [valid]}", "name it in `splits`"),
        ("evaluate={protocol: prequential, window: 1 month, ranking: {}}", "goes with protocol split"),
        ("encoder=null", "'encoder' updates the encoder, and the spec has none"),
        ("history.visibility=as-of-split", "as-of-split"),
        ("tuning={name: t2}", "tuning 't2' trains the encoder itself"),
    ],
)
def test_what_does_not_go_together_is_refused(root: Path, setting: str, said: str) -> None:
    done = call(root, "run", "suite.yaml", "--only", "encoder", "--set", setting, "--runs-dir", "refused")
    assert done.returncode != 0
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
