"""Samplers and pruners of studies: Optuna's by short names, any class of Optuna, and packages of OptunaHub."""

from __future__ import annotations

from collections.abc import Sequence

from collm.component import Component
from collm.contracts.search import PrunerConfig
from collm.hookspecs import hookimpl
from collm_optuna.config import (
    CmaesConfig,
    GridConfig,
    HubPrunerConfig,
    HubSamplerConfig,
    HyperbandConfig,
    MedianConfig,
    ModelConfig,
    Nsga2Config,
    OptunaPrunerConfig,
    OptunaSamplerConfig,
    RandomConfig,
)


@hookimpl
def register_samplers() -> Sequence[Component]:
    """Returns the samplers."""
    return [
        Component(
            kind="sampler",
            name="tpe",
            factory="collm_optuna.samplers:build_tpe",
            config=ModelConfig,
            summary="Tree of Parzen estimators.",
        ),
        Component(
            kind="sampler",
            name="gp",
            factory="collm_optuna.samplers:build_gp",
            config=ModelConfig,
            summary="Gaussian process.",
        ),
        Component(
            kind="sampler",
            name="cmaes",
            factory="collm_optuna.samplers:build_cmaes",
            config=CmaesConfig,
            summary="CMA-ES, for ranges; needs the package cmaes.",
            needs=frozenset({"one-objective", "ranges"}),
        ),
        Component(
            kind="sampler",
            name="nsga2",
            factory="collm_optuna.samplers:build_nsga2",
            config=Nsga2Config,
            summary="Genetic, for several objectives.",
            needs=frozenset({"several-objectives"}),
        ),
        Component(
            kind="sampler",
            name="random",
            factory="collm_optuna.samplers:build_random",
            config=RandomConfig,
            summary="Points drawn at random.",
        ),
        Component(
            kind="sampler",
            name="grid",
            factory="collm_optuna.samplers:build_random",
            config=GridConfig,
            summary="Every point once.",
            needs=frozenset({"every-point"}),
        ),
        Component(
            kind="sampler",
            name="optuna",
            factory="collm_optuna.any_class:build_sampler",
            config=OptunaSamplerConfig,
            summary="Any class of optuna.samplers, by `type` and `settings`.",
        ),
        Component(
            kind="sampler",
            name="optunahub",
            factory="collm_optuna.hub:build_sampler",
            config=HubSamplerConfig,
            summary="A sampler of an OptunaHub package, at one commit.",
            fetch="collm_optuna.hub:fetch",
            fetch_fields=("package", "commit"),
        ),
    ]


@hookimpl
def register_pruners() -> Sequence[Component]:
    """Returns the pruners."""
    return [
        Component(
            kind="pruner",
            name="none",
            factory="collm_optuna.pruners:build_none",
            config=PrunerConfig,
            summary="No trial is stopped.",
        ),
        Component(
            kind="pruner",
            name="median",
            factory="collm_optuna.pruners:build_median",
            config=MedianConfig,
            summary="Stops what is worse than the median of earlier trials at the same validation.",
        ),
        Component(
            kind="pruner",
            name="hyperband",
            factory="collm_optuna.pruners:build_hyperband",
            config=HyperbandConfig,
            summary="Successive halving in brackets.",
        ),
        Component(
            kind="pruner",
            name="optuna",
            factory="collm_optuna.any_class:build_pruner",
            config=OptunaPrunerConfig,
            summary="Any class of optuna.pruners, by `type` and `settings`.",
        ),
        Component(
            kind="pruner",
            name="optunahub",
            factory="collm_optuna.hub:build_pruner",
            config=HubPrunerConfig,
            summary="A pruner of an OptunaHub package, at one commit.",
        ),
    ]
