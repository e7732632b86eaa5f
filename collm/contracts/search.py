"""Contracts of a study's sampler and pruner: Optuna's own classes, made from settings of a study file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from pydantic import Field

from collm.component import BuildContext, ComponentConfig

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

# What a sampler may ask of a study, by the words of `Component.needs`.
SAMPLER_NEEDS: Mapping[str, str] = {
    "every-point": "has no sampler of its own: the study tries every point of the space once, without groups",
    "one-objective": "works for one objective",
    "several-objectives": "works for several objectives",
    "ranges": "models ranges outside of conditional groups, at least two; everything else is drawn at random",
}


class SamplerConfig(ComponentConfig):
    """Base of sampler settings."""

    seed: int = Field(default=0, ge=0, lt=2**32, description="Seed; the same history gives the same next point.")


class PrunerConfig(ComponentConfig):
    """Base of pruner settings."""


class SamplerFactory(Protocol):
    """What a sampler component names as its factory."""

    def __call__(self, config: SamplerConfig, *, seed: int, context: BuildContext) -> BaseSampler:
        """Returns the sampler for one trial.

        It is built anew for each trial, in every command that works on the study: what it learns it reads from the
        study's trials, and what it must remember it keeps in the study's storage.

        Args:
            config: The settings.
            seed: Seed of this trial, another for each number and the same in every command. A sampler whose points
                form one sequence takes `config.seed` instead.
            context: Cache folder.
        """
        ...


class PrunerFactory(Protocol):
    """What a pruner component names as its factory."""

    def __call__(self, config: PrunerConfig, *, context: BuildContext) -> BasePruner:
        """Returns the pruner; the steps of a trial are the numbers of its validations, from 1.

        Args:
            config: The settings.
            context: Cache folder.
        """
        ...
