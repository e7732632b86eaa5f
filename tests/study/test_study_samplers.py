"""Samplers and pruners do what their names say; Optuna's own classes, made from a study's settings."""

from __future__ import annotations

from typing import Any

import optuna
import pytest

from collm.spec.study_section import PrunerConfig, SamplerConfig
from collm.study.trial_queue import make_pruner, make_sampler

SAMPLERS: dict[str, dict[str, Any]] = {
    "tpe": {"startup_trials": 3},
    "gp": {"startup_trials": 3},
    "nsga2": {"population_size": 3},
    "random": {},
}


def points(config: SamplerConfig, n_trials: int, *, n_objectives: int) -> list[dict[str, Any]]:
    study = optuna.create_study(directions=["maximize"] * n_objectives)
    found = []
    for number in range(n_trials):
        study.sampler = make_sampler(config, number)
        trial = study.ask()
        rate = trial.suggest_float("rate", 1e-4, 1e-2, log=True)
        size = trial.suggest_categorical("size", [2, 4, 8])
        study.tell(trial, [rate * size] * n_objectives)
        found.append(dict(trial.params))
    return found


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_repeats_itself_by_its_seed(name: str) -> None:
    n_objectives = 2 if name == "nsga2" else 1
    config = SamplerConfig(name=name, seed=3, **SAMPLERS[name])  # type: ignore[arg-type]
    first = points(config, 6, n_objectives=n_objectives)
    assert points(config, 6, n_objectives=n_objectives) == first
    other = config.model_copy(update={"seed": 4})
    assert points(other, 6, n_objectives=n_objectives)[0] != first[0]
    assert len({point["rate"] for point in first}) > 1


@pytest.mark.parametrize("name", ["tpe", "gp"])
def test_a_model_goes_where_the_values_are_better(name: str) -> None:
    study = optuna.create_study(direction="maximize")
    space: dict[str, optuna.distributions.BaseDistribution] = {"x": optuna.distributions.FloatDistribution(0, 1)}
    for index in range(20):
        x = index / 19
        study.add_trial(optuna.create_trial(params={"x": x}, distributions=space, value=-((x - 0.8) ** 2)))
    drawn = []
    for number in range(20, 26):
        study.sampler = make_sampler(SamplerConfig(name=name), number)  # type: ignore[arg-type]
        drawn.append(study.ask().suggest_float("x", 0, 1))
    assert abs(sum(drawn) / len(drawn) - 0.8) < 0.2


def test_pruners_take_their_settings() -> None:
    assert isinstance(make_pruner(PrunerConfig()), optuna.pruners.NopPruner)
    study = optuna.create_study(direction="maximize", pruner=make_pruner(PrunerConfig(name="median", startup_trials=1)))
    stopped = []
    for value in (0.9, 0.1):
        trial = study.ask()
        trial.report(value, 1)
        stopped.append(trial.should_prune())
        study.tell(trial, value)
    assert stopped == [False, True]
    assert isinstance(make_pruner(PrunerConfig(name="hyperband", max_resource=9)), optuna.pruners.HyperbandPruner)


@pytest.mark.parametrize("settings", [{"warmup": 2}, {"startup_trials": 3}])
def test_median_grants_what_it_is_told_to(settings: dict[str, int]) -> None:
    pruner = make_pruner(PrunerConfig(name="median", **{"startup_trials": 1, **settings}))
    study = optuna.create_study(direction="maximize", pruner=pruner)
    for value in (0.9, 0.1):
        trial = study.ask()
        trial.report(value, 1)
        assert not trial.should_prune()
        study.tell(trial, value)
