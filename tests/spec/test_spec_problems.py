"""Problems of a spec: all in one report, each with its place."""

from __future__ import annotations

import pytest
from spec_reports import Load, problems


def test_five_mistakes_in_one_report(load: Load, full: str) -> None:
    text = (
        full.replace("name: movies", "name: movis")
        .replace("embedding_size: 8", "embeding_size: 8")
        .replace("1e-3", "-1")
        .replace("{name: tiny}", "{name: tiny, dtype: float31}")
        + "evaluate: {metrics: [auk]}\n"
    )
    found = problems(load, text)
    places = [(problem.line, problem.column, problem.path) for problem in found]
    assert places == [
        (2, 17, "dataset.name"),
        (3, 21, "encoder.embeding_size"),
        (3, 60, "encoder.fit.learning_rate"),
        (4, 31, "backbone.dtype"),
        (7, 22, "evaluate.metrics[0]"),
    ]
    assert "did you mean 'movies'" in found[0].message
    assert "did you mean 'embedding_size'" in found[1].message
    assert "got the number -1, must be greater than 0" in found[2].message
    assert "did you mean 'float32'" in found[3].message
    assert "did you mean 'auc'" in found[4].message


def test_a_bad_neighbour_hides_no_misspelled_metric(load: Load, full: str) -> None:
    found = problems(load, full + "evaluate: {metrics: [auk], splits: [train]}\n")
    assert [problem.path for problem in found] == ["evaluate.metrics[0]", "evaluate.splits[0]"]


@pytest.mark.parametrize(
    ("override", "path", "part"),
    [
        ("seed=-1", "seed", "must be greater than or equal to 0"),
        ("seed=true", "seed", "got the boolean true, must be a whole number"),
        ("seed=1.0", "seed", "write 1"),
        ("profile=papr", "profile", "must be one of: paper, reference, recommended; did you mean 'paper'?"),
        ("name=Yes", "name", 'YAML reads Yes as a boolean: quote it ("Yes")'),
        ("name=12", "name", 'quote it ("12")'),
        ("name=a/b", "name", "got 'a/b', must match pattern"),
        ("encoder=mf", "encoder", "write {name: mf}"),
        ("encoder.name=null", "encoder.name", "must be the encoder's name"),
        ("encoder.name=Yes", "encoder.name", 'quote it: "Yes"'),
        ("encoder={fit: {epochs: 3}}", "encoder.name", "installed: item-mean, mf, soft-prompt, text-din"),
        ("encoder.learning_rate=1", "encoder.learning_rate", "did you mean 'fit.learning_rate'?"),
        ("encoder.fit=3", "encoder.fit", "must be a mapping of fields"),
        ("encoder.fit.epochs='3'", "encoder.fit.epochs", "remove the quotes"),
        ("encoder.fit.epochs=1e2", "encoder.fit.epochs", "got the number 1e2, must be a whole number; write 100"),
        ("encoder.fit.learning_rate=yes", "encoder.fit.learning_rate", "must be a number"),
        ("evaluate.splits=[train]", "evaluate.splits[0]", "must be one of: valid, test"),
        ("evaluate.splits=valid", "evaluate.splits", "must be a list"),
        ("evaluate.metrics=[]", "evaluate.metrics", "at least 1 item"),
        ("evaluate.metrics=[auc, auc]", "evaluate.metrics[1]", "'auc' is given twice"),
        ("evaluate=3", "evaluate", "must be a mapping"),
        ("tuning.frozen_lora_dropout='true'", "tuning.frozen_lora_dropout", "remove the quotes"),
        ("prompt.wording=No", "prompt.wording", 'quote it ("No")'),
        ("dataset.limit.train=0", "dataset.limit.train", "greater than or equal to 1"),
        ("dataset=null", "dataset", "required section is missing"),
        ("name=null", "name", "must be text"),
        ("bakbone.name=x", "bakbone", "did you mean 'backbone'?"),
        ("runs={}", "runs", "belongs to a suite"),
        ("study={}", "study", "belongs to a study file"),
    ],
)
def test_located_messages(load: Load, full: str, override: str, path: str, part: str) -> None:
    (problem,) = problems(load, full, override)
    assert problem.path == path
    assert part in problem.message
    assert problem.file == "--set" or override == "dataset=null"


def test_name_is_required_and_top_must_be_a_mapping(load: Load, full: str) -> None:
    (problem,) = problems(load, full.replace("name: demo\n", ""))
    assert str(problem).endswith(
        ":1:1: name: required field is missing: Name of the run and of its folder: letters, digits, '.', '_', '+', '-'."
    )
    assert "must be a mapping" in problems(load, "- a\n")[0].message
    assert "must be a mapping" in problems(load, "hello\n")[0].message


def test_union_branches_become_one_problem(load: Load) -> None:
    text = "name: x\nencoder: {name: mf}\ndataset: {name: files, interactions: a, columns: {user: u}, threshold: 1.5}\n"
    (problem,) = problems(load, text)
    assert problem.path == "dataset.threshold"
    assert problem.message.startswith("got the number 1.5, must be a whole number")
    assert "or must be text" in problem.message


def test_name_changed_by_set_says_how_to_replace(load: Load, full: str) -> None:
    found = problems(load, full, "encoder.name=item-mean")
    assert any("--set 'encoder={name: item-mean}'" in problem.message for problem in found)


@pytest.mark.parametrize(
    ("overrides", "path", "part"),
    [
        (("encoder=null",), "tuning.name", "'default' needs an encoder and none is given"),
        (("tuning={name: text-only}",), "tuning.name", "'text-only' reads text only and would ignore the encoder"),
        (("prompt=null",), "prompt", "add e.g. `prompt: {name: movie}`"),
        (("tuning=null",), "tuning", "add e.g. `tuning: {name: default}`"),
        (("backbone=null", "tuning=null"), "prompt", "`prompt` is given without `backbone`"),
        (("backbone=null", "prompt=null"), "tuning", "--set tuning=null"),
        (
            ("backbone=null", "prompt=null", "tuning=null", "encoder=null"),
            "encoder",
            "a spec needs an `encoder`, a `backbone`, or both",
        ),
        (("encoder={name: item-mean}",), "encoder.name", "'item-mean' gives only scores, a prompt needs vectors"),
        (
            ("backbone=null", "prompt=null", "tuning=null", "encoder={name: soft-prompt}"),
            "encoder.name",
            "cannot recommend alone",
        ),
    ],
)
def test_rules_across_sections(load: Load, full: str, overrides: tuple[str, ...], path: str, part: str) -> None:
    (problem,) = problems(load, full, *overrides)
    assert problem.path == path
    assert part in problem.message


def test_rules_and_component_problems_come_together(load: Load, full: str) -> None:
    found = problems(load, full, "encoder=null", "backbone.layers=0", "colour=red")
    assert {problem.path for problem in found} == {"tuning.name", "backbone.layers", "colour"}
