"""The samplers with short names."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from optuna._transform import _SearchSpaceTransform
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from collm.component import BuildContext
from collm.contracts.search import SamplerConfig
from collm.errors import PluginError
from collm_optuna.config import CmaesConfig, ModelConfig, Nsga2Config

_STARTUP_TRIALS = 10
_POPULATION_SIZE = 50


def build_tpe(config: ModelConfig, *, seed: int, context: BuildContext) -> BaseSampler:  # noqa: ARG001
    """Builds the tree of Parzen estimators: running trials count as bad ones, so that parallel trials spread out."""
    startup = config.startup_trials or _STARTUP_TRIALS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return TPESampler(seed=seed, n_startup_trials=startup, constant_liar=True)


def build_gp(config: ModelConfig, *, seed: int, context: BuildContext) -> BaseSampler:  # noqa: ARG001
    """Builds the Gaussian process."""
    startup = config.startup_trials or _STARTUP_TRIALS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return GPSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)


def build_nsga2(config: Nsga2Config, *, seed: int, context: BuildContext) -> BaseSampler:  # noqa: ARG001
    """Builds the genetic sampler."""
    return NSGAIISampler(seed=seed, population_size=config.population_size or _POPULATION_SIZE)


def build_random(config: SamplerConfig, *, seed: int, context: BuildContext) -> BaseSampler:  # noqa: ARG001
    """Builds the random sampler; a grid's points come from the study, which never asks it."""
    return RandomSampler(seed=seed)


def build_cmaes(config: CmaesConfig, *, seed: int, context: BuildContext) -> BaseSampler:  # noqa: ARG001
    """Builds CMA-ES.

    Raises:
        PluginError: If the package cmaes is not installed.
    """
    try:
        import cmaes  # noqa: F401
    except ImportError as error:
        raise PluginError(f"it needs the package cmaes ({error}): pip install 'collm[samplers]'") from error
    return ReplayedCma(
        seed=seed,
        n_startup_trials=config.startup_trials or 1,
        popsize=config.population_size,
        warn_independent_sampling=False,
    )


class ReplayedCma(CmaEsSampler):  # type: ignore[misc]
    """CMA-ES whose state is computed from the finished trials.

    Optuna's own keeps its state as a pickle in the storage, which would run code that others wrote there.
    """

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Samples all ranges together."""
        self._ranges: Mapping[str, BaseDistribution] = search_space
        self._towards = study.direction
        found: dict[str, Any] = super().sample_relative(study, trial, search_space)
        return found

    def _restore_optimizer(self, completed_trials: Sequence[FrozenTrial]) -> Any:
        """Tells a new optimiser every full generation, in order."""
        transform = _SearchSpaceTransform(self._ranges, transform_step=True, transform_0_1=True)
        optimizer = self._init_optimizer(transform, self._towards)
        sign = 1.0 if self._towards == StudyDirection.MINIMIZE else -1.0
        for generation in itertools.count():
            trials = self._get_solution_trials(completed_trials, generation)[: optimizer.population_size]
            if len(trials) < optimizer.population_size:
                return optimizer
            optimizer.tell([(transform.transform(each.params), sign * each.value) for each in trials])
