from __future__ import annotations

import optuna
import pytest
from study_fakes import STUDY, Studies

from collm.study.space import Space

GROUPS = """\
name: search
base: base.yaml
study:
  objective: valid.auc
  trials: 6
  search:
    encoder.name:
      choices:
        mf: {encoder.embedding_size: {choices: [8, 16]}}
        din:
          encoder.layers: {choices: [[200, 80], [256, 128, 64]]}
          encoder.dropout: {low: 0, high: 0.5, step: 0.25}
        mf-bias: {}
    encoder.fit.epochs: 2
"""


def space(studies: Studies, text: str = GROUPS) -> Space:
    return studies.check(text).file.space


def test_each_choice_searches_its_own_fields(studies: Studies) -> None:
    found = space(studies)
    assert found.conditional
    assert [each.name for each in found.all()] == [
        "encoder.name",
        "encoder.embedding_size@mf",
        "encoder.layers@din",
        "encoder.dropout@din",
        "encoder.fit.epochs",
    ]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    names = set()
    for _ in range(20):
        point = found.suggest(study.ask())
        names.add(tuple(point))
        assert found.contains(point)
    assert names == {
        ("encoder.name", "encoder.embedding_size@mf"),
        ("encoder.name", "encoder.layers@din", "encoder.dropout@din"),
        ("encoder.name",),
    }


def test_a_point_becomes_a_spec(studies: Studies) -> None:
    checked = studies.check(GROUPS)
    point = {"encoder.name": "din", "encoder.layers@din": "[256, 128, 64]", "encoder.dropout@din": 0.25}
    spec = checked.trial(point).plain()
    assert spec["encoder"]["layers"] == [256, 128, 64]
    assert spec["encoder"]["dropout"] == 0.25
    assert spec["encoder"]["fit"]["epochs"] == 2
    # The base's mf-bias section, its embedding size included, is replaced whole.
    assert spec["encoder"]["embedding_size"] == 64
    assert spec["evaluate"]["splits"] == ["valid"]
    assert checked.whole(point).plain()["evaluate"]["splits"] == ["valid", "test"]


def test_the_same_choice_keeps_the_fields_of_the_base(studies: Studies) -> None:
    spec = studies.check(GROUPS).trial({"encoder.name": "mf-bias"}).plain()
    assert spec["encoder"]["embedding_size"] == 4


def test_ranges_are_typed_like_their_fields(studies: Studies) -> None:
    text = STUDY.replace("{choices: [2, 4, 8]}", "{low: 2, high: 8}").replace(
        "low: 1.0e-4, high: 1.0e-2", "low: 1, high: 2"
    )
    size, rate = space(studies, text).all()
    assert isinstance(size.distribution(), optuna.distributions.IntDistribution)
    assert isinstance(rate.distribution(), optuna.distributions.FloatDistribution)


def test_grid_has_every_point_once(studies: Studies) -> None:
    text = STUDY.replace("random, seed: 1", "grid").replace(
        "low: 1.0e-4, high: 1.0e-2, log: true", "choices: [0.1, 0.01]"
    )
    points = list(space(studies, text.replace("  trials: 6\n", "")).grid())
    assert points == [
        {"encoder.embedding_size": size, "encoder.fit.learning_rate": rate}
        for size in (2, 4, 8)
        for rate in (0.1, 0.01)
    ]


def test_grid_refuses_groups(studies: Studies) -> None:
    text = GROUPS.replace("  trials: 6\n", "  sampler: {name: grid}\n")
    assert "grid cannot search conditional groups" in studies.only_problem(text)


def test_a_path_is_searched_once(studies: Studies) -> None:
    text = GROUPS.replace("    encoder.fit.epochs: 2\n", "    encoder.dropout: 0.5\n")
    assert "is searched in line 14 already" in studies.only_problem(text)


@pytest.mark.parametrize(
    "point",
    [
        {"encoder.name": "mf"},
        {"encoder.name": "mf", "encoder.embedding_size@mf": 9},
        {"encoder.name": "mf-bias", "encoder.embedding_size@mf": 8},
        {"encoder.name": "other"},
    ],
)
def test_what_is_no_point(studies: Studies, point: dict[str, object]) -> None:
    assert not space(studies).contains(point)


def test_steps_give_values(studies: Studies) -> None:
    by_name = {each.name: each for each in space(studies).all()}
    assert by_name["encoder.dropout@din"].values() == [0.0, 0.25, 0.5]
    assert by_name["encoder.fit.epochs"].fixed
