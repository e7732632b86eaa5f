"""Departures from the paper: those that decide numbers are listed, those that are none are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from collm.registry import Registry
from collm.report.deviations import Deviation, deviations, has_biases
from collm.runs.records import RunResults
from collm.spec.resolve import load_spec

FULL = {"train": 33_891, "valid": 10_401, "test": 7_331}
HEAD = {"schema": 1, "name": "x", "run": "x", "spec_hash": "0", "seed": 0, "profile": "paper", "metrics": {}}
WHOLE: dict[str, Any] = {"counts": FULL, "full_counts": FULL}
ENCODER = "name: x\nprofile: {profile}\ndataset: {{name: collm-released}}\nencoder: {{name: {encoder}}}\n"
LANGUAGE = ENCODER + "backbone: {{name: {backbone}}}\nprompt: {{name: movie}}\ntuning: {{name: {tuning}}}\n"


def found(
    registry: Registry,
    folder: Path,
    *overrides: str,
    profile: str = "paper",
    encoder: str = "mf",
    backbone: str = "",
    tuning: str = "default",
    results: dict[str, Any] = WHOLE,
) -> dict[str, Deviation]:
    text = (LANGUAGE if backbone else ENCODER).format(
        profile=profile, encoder=encoder, backbone=backbone, tuning=tuning
    )
    path = folder / "x.yaml"
    path.write_text(text, encoding="utf-8")
    plain = load_spec(path, list(overrides), registry, cwd=folder).plain()
    return {each.field: each for each in deviations(plain, recorded(results), registry)}


def recorded(results: dict[str, Any]) -> RunResults:
    return RunResults.check({**HEAD, **results}, place="results.json")


@pytest.mark.parametrize("encoder", ["mf", "lightgcn", "sasrec", "din"])
def test_the_papers_encoders_do_not_depart(registry: Registry, tmp_path: Path, encoder: str) -> None:
    assert found(registry, tmp_path, encoder=encoder) == {}


@pytest.mark.parametrize("backbone", ["vicuna-7b", "qwen2-1.5b"])
def test_the_papers_main_runs_do_not_depart(registry: Registry, tmp_path: Path, backbone: str) -> None:
    assert found(registry, tmp_path, backbone=backbone) == {}


@pytest.mark.parametrize("encoder", ["lightgcn", "sasrec", "din"])
def test_recommended_encoders_have_biases_and_their_own_sizes(registry: Registry, tmp_path: Path, encoder: str) -> None:
    listed = found(registry, tmp_path, profile="recommended", encoder=encoder)
    assert listed["encoder.biases"] == Deviation("encoder.biases", "True", "False")
    assert "history.visibility" in listed
    # Nothing is asked of a language model, so its settings are not departures.
    assert not [path for path in listed if path.startswith(("answer", "mapping", "tuning", "select", "prompt"))]
    assert has_biases(list(listed.values()))


def test_other_encoders_and_backbones_are_named(registry: Registry, tmp_path: Path) -> None:
    listed = found(registry, tmp_path, encoder="mf-bias", backbone="smollm2-135m")
    assert listed["encoder.name"].value == "mf-bias"
    assert listed["backbone.name"].paper == "vicuna-7b or qwen2-1.5b"


@pytest.mark.parametrize(
    ("backbone", "override", "field", "paper"),
    [
        ("vicuna-7b", "backbone.version=v1.5", "backbone.version", "v0"),
        ("qwen2-1.5b", "backbone.checkpoint=Qwen/Qwen2-1.5B-Instruct", "backbone.checkpoint", "Qwen/Qwen2-1.5B"),
        ("vicuna-7b", "mapping.standardise=true", "mapping.standardise", "False"),
        ("vicuna-7b", "mapping.init=token-norm", "mapping.init", "torch-default"),
        ("vicuna-7b", "mapping.width_factor=4", "mapping.width_factor", "10"),
        ("vicuna-7b", "tuning.lora.r=16", "tuning.lora.r", "8"),
        ("vicuna-7b", "tuning.clip_norm=1.0", "tuning.clip_norm", "None"),
        ("vicuna-7b", "tuning.text.learning_rate=3e-4", "tuning.text.learning_rate", "0.01 or 0.001 or 0.0001"),
        ("vicuna-7b", "tuning.text.weight_decay=0", "tuning.text.weight_decay", "0.001"),
        ("vicuna-7b", "answer.readout=yes_minus_no", "answer.readout", "yes_logit"),
    ],
)
def test_each_choice_is_listed(
    registry: Registry, tmp_path: Path, backbone: str, override: str, field: str, paper: str
) -> None:
    listed = found(registry, tmp_path, override, backbone=backbone)
    assert list(listed) == [field]
    assert listed[field].paper == paper


def test_what_the_paper_leaves_open_is_no_departure(registry: Registry, tmp_path: Path) -> None:
    free = ("tuning.text.patience=2", "tuning.text.epochs=1", "tuning.batch_size=8", "tuning.text.learning_rate=1e-2")
    assert found(registry, tmp_path, *free, backbone="vicuna-7b") == {}


def test_rows_that_were_left_out_are_listed(registry: Registry, tmp_path: Path) -> None:
    results = {**WHOLE, "counts": {**FULL, "test": 600}, "facts": {"tune_1": {"rows": 500}}}
    listed = found(registry, tmp_path, backbone="vicuna-7b", results=results)
    assert {path: (each.value, each.paper) for path, each in listed.items()} == {
        "dataset.limit.test": ("600 rows", "all 7,331"),
        "rows of tune_1": ("500", "all 33,891"),
    }


def test_an_ensemble_lists_nothing_of_its_own(registry: Registry) -> None:
    assert deviations({"ensemble": {}}, recorded(WHOLE), registry) == []
