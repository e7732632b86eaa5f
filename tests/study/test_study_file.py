from __future__ import annotations

from pathlib import Path

import pytest
from study_fakes import STUDY, Studies

from collm.errors import SpecError
from collm.study.study_file import read_study


def test_a_study_file_is_read(studies: Studies, tmp_path: Path) -> None:
    file = studies.read()
    assert file.name == "search"
    assert [(each.text, each.direction) for each in file.objectives] == [("valid.auc", "maximize")]
    assert [each.path for each in file.space.all()] == ["encoder.embedding_size", "encoder.fit.learning_rate"]
    assert file.section.trials == 6
    assert (file.storage.kind, file.storage.path) == ("journal", tmp_path / "studies.log")
    assert file.base.find(("encoder", "name")) is not None


@pytest.mark.parametrize(
    ("text", "slice_name", "metric"),
    [
        ("valid.ndcg@10", "all", "ndcg@10"),
        ("valid.warm.ndcg(k=3)", "warm", "ndcg@3"),
        ("valid.cold.ndcg", "cold", "ndcg"),
    ],
)
def test_an_objective_names_a_metric_with_settings(studies: Studies, text: str, slice_name: str, metric: str) -> None:
    (objective,) = studies.read(STUDY.replace("valid.auc", text)).objectives
    assert (objective.slice_name, objective.metric, objective.direction) == (slice_name, metric, "maximize")


def test_an_objective_must_be_measured_with_its_settings(studies: Studies) -> None:
    study = STUDY.replace("valid.auc", "valid.ndcg@10")
    assert "the base does not measure 'ndcg@10'; its evaluate.metrics are auc, uauc, ndcg" in studies.only_problem(
        study
    )
    assert studies.check(study, "evaluate.metrics=[{name: ndcg, k: 10}]").file.objectives[0].metric == "ndcg@10"


def test_without_storage_the_journal_lies_in_the_runs_directory(studies: Studies, tmp_path: Path) -> None:
    file = studies.read(STUDY.replace("  storage: journal:studies.log\n", ""))
    assert file.storage.path == tmp_path / "runs" / "studies.log"


def test_set_reaches_the_study_and_its_base(studies: Studies) -> None:
    file = studies.read(STUDY, "study.trials=9", "encoder.fit.epochs=5")
    assert file.section.trials == 9
    assert file.base.find(("encoder", "fit", "epochs")).value == 5  # type: ignore[union-attr]


MISTAKES = {
    "unknown key": ("  trials: 6\n", "  trails: 6\n", "study.yaml:5:3: study.trails: unknown field 'trails'"),
    "unknown key of a choice": ("choices: [2, 4, 8]", "choice: [2]", "study.yaml:9:30: study.search.encoder.embedding"),
    "empty choices": ("[2, 4, 8]", "[]", "study.yaml:9:39: study.search.encoder.embedding_size.choices: got an empty"),
    "twice": ("[2, 4, 8]", "[2, 4, 2]", "study.search.encoder.embedding_size.choices[2]: the number 2 is given twice"),
    "low above high": ("low: 1.0e-4", "low: 1", "study.yaml:10:47: study.search.encoder.fit.learning_rate.high: got"),
    "log of zero": ("low: 1.0e-4", "low: 0", "must be more than 0 where log is true"),
    "no whole step": ("high: 1.0e-2, log: true", "high: 0.01, step: 0.003", "whole steps of 0.003: 0.0091 or 0.0121"),
    "no high": (", high: 1.0e-2, log: true", "", "`high` is missing"),
    "section": ("encoder.embedding_size", "encodr.embedding_size", "did you mean 'encoder'?"),
    "evaluate": ("encoder.embedding_size", "evaluate.metrics", "trials that differ in it cannot be compared"),
    "test metric": ("valid.auc", "test.auc", "study.yaml:4:14: study.objective: 'test.auc': the test split is for"),
    "unknown metric": ("valid.auc", "valid.acu", "'acu' (did you mean 'auc'"),
    "settings of a metric": ("valid.auc", "valid.warm.ndcg@x", "ndcg@x': got 'x', must be a whole number"),
    "no such setting": ("valid.auc", "valid.auc@10", "'auc@10', metric 'auc' has no field k, which @ sets"),
    "unknown slice": ("valid.auc", "valid.hot.auc", "unknown slice 'hot'; slices: all, warm, cold"),
    "malformed objective": ("valid.auc", "auc", "'auc' is not SPLIT[.SLICE].METRIC"),
    "wrong direction": ("  trials: 6\n", "  direction: minimize\n  trials: 6\n", "'auc' is better when larger"),
    "sampler": ("name: random", "name: tpee", "unknown sampler 'tpee' (did you mean 'tpe'?)"),
    "sampler's field": (
        "seed: 1",
        "population_size: 4",
        "study.sampler.population_size: unknown field 'population_size'",
    ),
    "grid without steps": ("name: random, seed: 1", "name: grid", "grid needs every value"),
    "no trials": ("  trials: 6\n", "", "only a grid ends by itself"),
    "storage": ("journal:studies.log", "redis://x", "'redis://x' must be journal:PATH"),
    "nsga2 for one": ("name: random, seed: 1", "name: nsga2", "nsga2 is for several objectives"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_located(studies: Studies, name: str) -> None:
    old, new, message = MISTAKES[name]
    assert old in STUDY
    text = "\n".join(str(problem) for problem in studies.problems(STUDY.replace(old, new)))
    assert message in text
    assert "study.yaml:" in text


def test_all_mistakes_are_one_report(studies: Studies) -> None:
    text = STUDY.replace("valid.auc", "test.auc").replace("trials: 6", "trials: 0").replace("[2, 4, 8]", "[]")
    assert [problem.line for problem in studies.problems(text)] == [4, 5, 9]


def test_a_mistake_in_the_search_is_not_called_an_empty_search_as_well(studies: Studies) -> None:
    head, _, _ = STUDY.partition("    encoder.embedding_size")
    assert "is given twice" in studies.only_problem(head + "    encoder.embedding_size: {choices: [8, 8]}\n")
    assert "there is nothing to search" in studies.only_problem(head + "    encoder.embedding_size: {choices: [8]}\n")


def test_several_objectives_cannot_be_pruned(studies: Studies) -> None:
    text = STUDY.replace("valid.auc", "[valid.auc, cost.seconds_per_sample]")
    assert [each.direction for each in studies.read(text).objectives] == ["maximize", "minimize"]
    pruned = text.replace("  trials", "  pruner: {name: median}\n  trials")
    assert "several objectives cannot be pruned" in studies.only_problem(pruned)


def test_one_direction_for_each_objective(studies: Studies) -> None:
    text = STUDY.replace("valid.auc", "[valid.auc, valid.logloss]").replace(
        "  trials", "  direction: maximize\n  trials"
    )
    assert "one direction per objective: 2 objectives" in studies.only_problem(text)


@pytest.mark.parametrize("value", ["postgresql://me:s3cret@host:none/db", "mysql://me:s3cret@host/db"])
def test_a_bad_address_is_shown_without_its_password(studies: Studies, value: str) -> None:
    message = studies.only_problem(STUDY.replace("journal:studies.log", value))
    assert "s3cret" not in message
    assert "me:***@host" in message


def test_a_spec_is_no_study(studies: Studies, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="not a study file"):
        read_study(tmp_path / "base.yaml", [], studies.registry, cwd=tmp_path, runs_dir=tmp_path)


def test_a_missing_base_is_located(studies: Studies) -> None:
    message = studies.only_problem(STUDY.replace("base.yaml", "bsae.yaml"))
    assert message.startswith("study.yaml:2:7: base: 'bsae.yaml': no such file")
    assert "base.yaml" in message
