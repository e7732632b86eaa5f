"""Samplers and pruners of studies: their contracts, CMA-ES against Optuna's own, any class, packages of OptunaHub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from collm.component import BuildContext, Component
from collm.errors import CollmError, DataError, PluginError, SpecError
from collm.registry import default_registry
from collm.spec.component_config import component_config
from collm.testing.plugin_check import check_component
from collm_optuna import register_pruners, register_samplers
from collm_optuna.hub import fetch
from collm_optuna.samplers import ReplayedCma

SAMPLERS = {each.name: each for each in register_samplers()}
PRUNERS = {each.name: each for each in register_pruners()}
COMMIT = "0123456789abcdef0123456789abcdef01234567"
PACKAGE = '''\
"""A sampler as a package of a registry."""

import optuna
import optunahub

beside = optunahub.load_module("samplers/other", ref="main")


class Halfway(beside.Other):
    def __init__(self, shift=0.0, *, seed=None):
        super().__init__(seed=seed)
        self.shift = shift
'''
OTHER = """\
import optuna


class Other(optuna.samplers.RandomSampler):
    pass
"""


def build(component: Component, cache: Path, *, seed: int = 1, **settings: Any) -> Any:
    config = component_config(component, settings, default_registry())
    more = {"seed": seed} if component.kind == "sampler" else {}
    return component.load_factory()(config, context=BuildContext(cache_dir=cache), **more)


@pytest.fixture
def registry_folder(tmp_path: Path) -> Path:
    for name, text in (("halfway", PACKAGE), ("other", OTHER)):
        folder = tmp_path / "package" / "samplers" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(text, encoding="utf-8")
    return tmp_path / "package"


@pytest.mark.parametrize(
    ("component", "settings"),
    [
        *((SAMPLERS[name], {}) for name in ("tpe", "gp", "cmaes", "nsga2", "random", "grid")),
        (SAMPLERS["optuna"], {"type": "QMCSampler", "settings": {"warn_independent_sampling": False}}),
        (SAMPLERS["optuna"], {"type": "optuna.samplers.TPESampler", "settings": {"multivariate": True}}),
        *((PRUNERS[name], {}) for name in ("none", "median", "hyperband")),
        (PRUNERS["optuna"], {"type": "PercentilePruner", "settings": {"percentile": 25.0}}),
        (
            PRUNERS["optuna"],
            {"type": "PatientPruner", "settings": {"patience": 1, "wrapped_pruner": {"type": "MedianPruner"}}},
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Component) else value.get("type", ""),
)
def test_each_keeps_the_contract(component: Component, settings: dict[str, Any]) -> None:
    results = check_component(component, registry=default_registry(), settings=settings)
    assert [(each.name, each.fault) for each in results if not each.ok] == []


def test_a_package_keeps_the_contract(registry_folder: Path) -> None:
    pytest.importorskip("optunahub")
    settings = {"package": "samplers/halfway", "folder": str(registry_folder)}
    results = check_component(SAMPLERS["optunahub"], registry=default_registry(), settings=settings)
    assert [(each.name, each.fault) for each in results if not each.ok] == []


# -- CMA-ES --------------------------------------------------------------------------------------------------------


def searched(make: Any, direction: str) -> optuna.Study:
    """A study of 60 trials on three ranges: 1 random one, 8 generations of 7, and 3 of the next."""
    study = optuna.create_study(direction=direction)
    sign = 1 if direction == "minimize" else -1
    for number in range(60):
        study.sampler = make(seed=number, warn_independent_sampling=False)
        trial = study.ask()
        x, y = trial.suggest_float("x", -5, 5), trial.suggest_float("y", 1e-3, 1, log=True)
        n = trial.suggest_int("n", 1, 9)
        study.tell(trial, sign * ((x - 1) ** 2 + (y - 0.1) ** 2 + (n - 3) ** 2))
    return study


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_cmaes_knows_from_the_trials_what_optunas_own_keeps_as_a_pickle(direction: str) -> None:
    study = searched(optuna.samplers.CmaEsSampler, direction)
    own = optuna.samplers.CmaEsSampler()._restore_optimizer(study.trials)
    replayed = ReplayedCma(seed=0)
    replayed._ranges = dict(sorted(study.trials[-1].distributions.items()))
    replayed._towards = study.direction
    found = replayed._restore_optimizer(study.trials)
    assert (found.generation, own.generation) == (8, 8)
    assert found._mean == pytest.approx(own._mean, abs=1e-12)
    assert pytest.approx(own._C, abs=1e-12) == found._C
    assert found._sigma == pytest.approx(own._sigma)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_cmaes_finds_the_best_point(direction: str) -> None:
    last = [trial.params for trial in searched(ReplayedCma, direction).trials[-10:]]
    assert sum(abs(point["x"] - 1) for point in last) / 10 < 1
    assert {point["n"] for point in last} <= {2, 3, 4}


def test_cmaes_stores_no_pickle() -> None:
    study = optuna.create_study(direction="maximize")
    for number in range(30):
        study.sampler = ReplayedCma(seed=number, warn_independent_sampling=False)
        trial = study.ask()
        study.tell(trial, trial.suggest_float("x", 0, 1) + trial.suggest_float("y", 0, 1))
    stored = {key for trial in study.trials for key in trial.system_attrs}
    assert stored == {"cma:generation"}
    assert max(trial.system_attrs.get("cma:generation", 0) for trial in study.trials) >= 2


# -- any class of Optuna -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("component", "settings", "message"),
    [
        (SAMPLERS["optuna"], {"type": "TPESamplr"}, r"not a class of optuna.samplers \(did you mean 'TPESampler'\?\)"),
        (SAMPLERS["optuna"], {"type": "os.system"}, "not a class of optuna.samplers; classes: BruteForceSampler"),
        (SAMPLERS["optuna"], {"type": "BaseSampler"}, "not a class of optuna.samplers"),
        (SAMPLERS["optuna"], {"type": "CmaEsSampler"}, "write name: cmaes"),
        (SAMPLERS["optuna"], {"type": "GridSampler"}, "write name: grid"),
        (SAMPLERS["optuna"], {"type": "TPESampler", "settings": {"seed": 3}}, "sampler's own field `seed`"),
        (
            SAMPLERS["optuna"],
            {"type": "TPESampler", "settings": {"n_startup": 3}},
            r"TPESampler has no such argument \(did you mean 'n_startup_trials'\?\)",
        ),
        (PRUNERS["optuna"], {"type": "PercentilePruner"}, "PercentilePruner needs percentile"),
        (PRUNERS["optuna"], {"type": "PercentilePruner", "settings": {"percentile": 200}}, "refuses its settings"),
        (
            PRUNERS["optuna"],
            {"type": "PatientPruner", "settings": {"patience": 1, "wrapped_pruner": {"type": "MedianPrunr"}}},
            r"settings.wrapped_pruner: .*did you mean 'MedianPruner'\?",
        ),
        (SAMPLERS["optunahub"], {"package": "samplers/x"}, "give `commit`"),
        (SAMPLERS["optunahub"], {"package": "samplers/x", "commit": "main"}, "all 40 digits of a commit"),
        (SAMPLERS["optunahub"], {"package": "../x", "commit": COMMIT}, "must be a path in the registry"),
    ],
)
def test_what_cannot_be_built_is_named(
    component: Component, settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(CollmError, match=message):
        build(component, tmp_path, **settings)


def test_points_of_one_sequence_share_the_studys_seed(tmp_path: Path) -> None:
    def first_of(seed: int) -> list[float]:
        study = optuna.create_study()
        drawn = []
        for number in range(9):
            study.sampler = build(SAMPLERS["optuna"], tmp_path, seed=seed + number, type="QMCSampler")
            trial = study.ask()
            drawn.append(trial.suggest_float("x", 0, 1))
            study.tell(trial, 0.0)
        return drawn[1:]

    # Eight points of a Sobol sequence have one in each eighth.
    assert sorted(int(8 * value) for value in first_of(1)) == list(range(8))
    assert first_of(1) == first_of(100)


# -- packages of OptunaHub -----------------------------------------------------------------------------------------


def test_a_package_comes_from_its_folder_and_loads_others_from_there(registry_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("optunahub")
    made = build(
        SAMPLERS["optunahub"],
        tmp_path,
        package="samplers/halfway",
        folder=str(registry_folder),
        settings={"shift": 0.5},
    )
    assert (type(made).__name__, made.shift) == ("Halfway", 0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"package": "samplers/missing"}, "no package 'samplers/missing' in"),
        ({"package": "samplers/halfway", "type": "Other"}, "has no class 'Other'; its classes: Halfway"),
        ({"package": "samplers/halfway", "settings": {"shft": 1}}, r"did you mean 'shift'\?"),
    ],
)
def test_faults_of_a_package_are_named(
    registry_folder: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    pytest.importorskip("optunahub")
    with pytest.raises((PluginError, DataError), match=message):
        build(SAMPLERS["optunahub"], tmp_path, folder=str(registry_folder), **settings)


def test_a_package_that_was_not_fetched_is_not_downloaded(tmp_path: Path) -> None:
    command = f"collm fetch optunahub --set package=samplers/halfway --set commit={COMMIT}"
    with pytest.raises(DataError, match=command):
        build(SAMPLERS["optunahub"], tmp_path, package="samplers/halfway", commit=COMMIT)


def test_fetching_runs_no_code_and_ends_where_studies_look(
    registry_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("optunahub.hub")

    def download(*, repo_owner: str, repo_name: str, dir_path: str, ref: str, cache_dir_prefix: str, **_: Any) -> None:
        assert (repo_owner, repo_name, ref) == ("optuna", "optunahub-registry", COMMIT)
        target = Path(cache_dir_prefix, dir_path)
        target.mkdir(parents=True)
        (target / "__init__.py").write_text("raise SystemExit('was run')\n", encoding="utf-8")

    for name in ("_download_via_git", "_download_via_github_api"):
        monkeypatch.setattr(hub, name, download)
    component = SAMPLERS["optunahub"]
    config = component_config(component, {"package": "samplers/halfway", "commit": COMMIT}, default_registry())
    folder = fetch(BuildContext(cache_dir=tmp_path), config)
    assert (folder / "__init__.py").is_file()
    (folder / "__init__.py").write_text(OTHER, encoding="utf-8")
    made = build(component, tmp_path, package="samplers/halfway", commit=COMMIT)
    assert type(made).__name__ == "Other"


def test_a_fetch_without_a_commit_is_refused(registry_folder: Path, tmp_path: Path) -> None:
    with pytest.raises((SpecError, DataError), match="commit"):
        config = component_config(
            SAMPLERS["optunahub"], {"package": "samplers/x", "folder": str(registry_folder)}, default_registry()
        )
        fetch(BuildContext(cache_dir=tmp_path), config)
