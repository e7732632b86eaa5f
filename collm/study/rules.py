"""Samplers and pruners of Optuna, made from a study's settings."""

from __future__ import annotations

import hashlib
import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from collm.spec.study_section import PrunerConfig, SamplerConfig

STARTUP_TRIALS = 10
POPULATION_SIZE = 50


def make_sampler(config: SamplerConfig, number: int) -> BaseSampler:
    """Returns the sampler for one trial.

    Each trial gets a seed of its own, so that workers which start together do not draw the same points, and the same
    history gives the same next point whoever asks.

    Args:
        config: The settings.
        number: Number of the trial that is to be sampled.
    """
    digest = hashlib.sha256(f"{config.seed} {number}".encode()).digest()
    seed = int.from_bytes(digest[:4], "big")
    startup = config.startup_trials or STARTUP_TRIALS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if config.name == "tpe":
            # Running trials count as bad ones, so that parallel workers spread out.
            return TPESampler(seed=seed, n_startup_trials=startup, constant_liar=True)
        if config.name == "gp":
            return GPSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
        if config.name == "nsga2":
            return NSGAIISampler(seed=seed, population_size=config.population_size or POPULATION_SIZE)
    # A grid's points are put into the queue one by one; its sampler is never asked.
    return RandomSampler(seed=seed)


def make_pruner(config: PrunerConfig) -> BasePruner:
    """Returns the pruner; steps are the numbers of validations."""
    if config.name == "median":
        startup = 5 if config.startup_trials is None else config.startup_trials
        return MedianPruner(n_startup_trials=startup, n_warmup_steps=config.warmup or 0)
    if config.name == "hyperband":
        return HyperbandPruner(
            min_resource=config.min_resource or 1,
            max_resource=config.max_resource or "auto",
            reduction_factor=config.reduction_factor or 3,
        )
    return NopPruner()
