"""The pruners with short names; steps are the numbers of validations."""

from __future__ import annotations

from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner

from collm.component import BuildContext
from collm.contracts.search import PrunerConfig
from collm_optuna.config import HyperbandConfig, MedianConfig


def build_none(config: PrunerConfig, *, context: BuildContext) -> BasePruner:  # noqa: ARG001
    """Builds the pruner that stops nothing."""
    return NopPruner()


def build_median(config: MedianConfig, *, context: BuildContext) -> BasePruner:  # noqa: ARG001
    """Builds the comparison with the median."""
    startup = 5 if config.startup_trials is None else config.startup_trials
    return MedianPruner(n_startup_trials=startup, n_warmup_steps=config.warmup or 0)


def build_hyperband(config: HyperbandConfig, *, context: BuildContext) -> BasePruner:  # noqa: ARG001
    """Builds successive halving in brackets."""
    return HyperbandPruner(
        min_resource=config.min_resource or 1,
        max_resource=config.max_resource or "auto",
        reduction_factor=config.reduction_factor or 3,
    )
