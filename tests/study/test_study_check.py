from __future__ import annotations

import pytest
from study_fakes import BASE, STUDY, Studies


def test_an_unknown_path_is_located(studies: Studies) -> None:
    message = studies.only_problem(STUDY.replace("encoder.embedding_size", "encoder.embeding_size"))
    assert message.startswith("study.yaml:9:5: study.search.encoder.embeding_size: unknown field 'embeding_size'")
    assert "did you mean 'embedding_size'?" in message


def test_an_unknown_section_on_the_way_is_one_problem(studies: Studies) -> None:
    message = studies.only_problem(STUDY.replace("encoder.embedding_size", "encoder.fitt.embedding_size"))
    assert message.startswith("study.yaml:9:5: study.search.encoder.fitt.embedding_size: unknown field 'fitt'")


def test_a_value_outside_the_bounds_is_located(studies: Studies) -> None:
    message = studies.only_problem(STUDY.replace("[2, 4, 8]", "[2, 0, 8]"))
    assert message.startswith("study.yaml:9:43: study.search.encoder.embedding_size: got the number 0, ")


def test_both_ends_of_a_range_are_tried(studies: Studies) -> None:
    message = studies.only_problem(STUDY.replace("{choices: [2, 4, 8]}", "{low: 0, high: 8}"))
    assert message.startswith("study.yaml:9:35: study.search.encoder.embedding_size: got the number 0")


def test_a_component_that_is_not_installed_is_located(studies: Studies) -> None:
    text = STUDY.replace("encoder.embedding_size: {choices: [2, 4, 8]}", "encoder.name: [mf, dinn]")
    message = studies.only_problem(text)
    assert message.startswith("study.yaml:9:24: study.search.encoder.name: unknown encoder 'dinn'")


def test_a_mistake_of_the_base_stays_there(studies: Studies) -> None:
    (studies.folder / "base.yaml").write_text(BASE.replace("epochs: 3", "epochs: 0"), encoding="utf-8")
    message = studies.only_problem(STUDY)
    assert message.startswith("base.yaml:3:")
    assert "study.search" not in message


def test_a_value_that_fits_beside_other_values_is_let_through(studies: Studies) -> None:
    text = STUDY.replace(
        "encoder.embedding_size: {choices: [2, 4, 8]}",
        "encoder.embedding_size: {choices: [5, 6]}\n    encoder.n_heads: {choices: [1, 3]}",
    )
    (studies.folder / "base.yaml").write_text(BASE.replace("mf-bias", "sasrec"), encoding="utf-8")
    assert studies.check(text).file.name == "search"
    never = text.replace("[5, 6]", "[5, 7]")
    assert "n_heads must divide embedding_size" in str(studies.problems(never)[0])


def test_an_objective_that_the_run_does_not_produce(studies: Studies) -> None:
    (studies.folder / "base.yaml").write_text(BASE + "evaluate: {metrics: [uauc], slices: [all]}\n", encoding="utf-8")
    assert "the base does not measure 'auc'; its evaluate.metrics are uauc" in studies.only_problem(STUDY)
    warm = STUDY.replace("valid.auc", "valid.warm.uauc")
    assert "the base does not measure 'warm'; its evaluate.slices are all" in studies.only_problem(warm)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("dataset", ["movielens-small", "ml-1m"]),
        ("encoder", ["mf-bias", "sasrec"]),
        ("backbone", ["tiny", "smollm2-135m"]),
        ("prompt", ["movie", "book"]),
        ("tuning", ["default", "t1"]),
    ],
)
def test_every_kind_of_component_can_be_searched(studies: Studies, kind: str, names: list[str]) -> None:
    choices = f"{kind}.name: [{', '.join(names)}]"
    text = STUDY.replace("encoder.embedding_size: {choices: [2, 4, 8]}", choices)
    extra = "backbone: {name: tiny}\nprompt: {name: movie}\ntuning: {name: default}\n"
    (studies.folder / "base.yaml").write_text(BASE + extra, encoding="utf-8")
    checked = studies.check(text)
    for name in names:
        spec = checked.trial({f"{kind}.name": name, "encoder.fit.learning_rate": 0.001})
        assert getattr(spec, kind).name == name
    refused = studies.only_problem(text.replace(names[1], "no-such-thing"))
    assert f"study.search.{kind}.name: unknown {kind} 'no-such-thing'" in refused
