"""Settings of samplers and pruners."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from collm.component import ComponentConfig, location_field
from collm.contracts.search import PrunerConfig, SamplerConfig
from collm_optuna.any_class import settings_fault

_COMMIT = re.compile(r"[0-9a-f]{40}")
_PACKAGE = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)+")


class ModelConfig(SamplerConfig):
    """Settings of `tpe` and `gp`."""

    startup_trials: int | None = Field(
        default=None, ge=1, description="Random trials before anything is modelled; null = 10."
    )


class CmaesConfig(SamplerConfig):
    """Settings of `cmaes`."""

    startup_trials: int | None = Field(
        default=None, ge=1, description="Random trials before the first generation; null = 1."
    )
    population_size: int | None = Field(
        default=None, ge=2, description="Trials per generation; null = 4 + 3 ln(number of ranges)."
    )


class Nsga2Config(SamplerConfig):
    """Settings of `nsga2`."""

    population_size: int | None = Field(default=None, ge=2, description="Trials per generation; null = 50.")


class RandomConfig(SamplerConfig):
    """Settings of `random`."""


class GridConfig(SamplerConfig):
    """Settings of `grid`."""


class MedianConfig(PrunerConfig):
    """Settings of `median`."""

    startup_trials: int | None = Field(
        default=None, ge=0, description="Finished trials before any is stopped; null = 5."
    )
    warmup: int | None = Field(default=None, ge=0, description="Validations that are always granted; null = 0.")


class HyperbandConfig(PrunerConfig):
    """Settings of `hyperband`."""

    min_resource: int | None = Field(default=None, ge=1, description="Validations that are always granted; null = 1.")
    max_resource: int | None = Field(
        default=None, ge=1, description="Validations of a full trial; null = those of the first one."
    )
    reduction_factor: int | None = Field(
        default=None, ge=2, description="One trial in this many is kept at each rung; null = 3."
    )


class _ClassConfig(ComponentConfig):
    """Fields that both components named `optuna` have."""

    type: str = Field(description="Name of a class of optuna.samplers or optuna.pruners, e.g. `QMCSampler`.")
    settings: dict[str, Any] = Field(
        default={},
        description="Arguments of the class by name; its seed is the sampler's `seed`. A pruner inside another, as "
        "`PatientPruner` takes one, is a mapping with `type` and `settings`.",
    )


class OptunaSamplerConfig(_ClassConfig, SamplerConfig):
    """Settings of `optuna` as a sampler."""

    @model_validator(mode="after")
    def settings_fit_the_class(self) -> OptunaSamplerConfig:
        """Refuses an unknown class, and a setting that the class does not take."""
        _refuse(settings_fault(self.type, self.settings, "samplers"))
        return self


class OptunaPrunerConfig(_ClassConfig, PrunerConfig):
    """Settings of `optuna` as a pruner."""

    @model_validator(mode="after")
    def settings_fit_the_class(self) -> OptunaPrunerConfig:
        """Refuses an unknown class, and a setting that the class does not take."""
        _refuse(settings_fault(self.type, self.settings, "pruners"))
        return self


class HubConfig(ComponentConfig):
    """Fields that both components named `optunahub` have."""

    package: str = Field(description="Package of the registry, e.g. `samplers/auto_sampler`.")
    commit: str | None = Field(
        default=None,
        description="Commit of the registry that the package is taken from, 40 digits; `collm fetch optunahub` gets "
        "it.",
    )
    folder: Path | None = location_field(
        None, description="Copy of a registry's folder `package`, in place of a commit: your own, or without a network."
    )
    type: str | None = Field(default=None, description="Class of the package; null = the first one that it names.")
    settings: dict[str, Any] = Field(default={}, description="Arguments of the class by name, its seed aside.")

    @model_validator(mode="after")
    def one_source(self) -> HubConfig:
        """Asks for a commit or a folder, and a package inside of it."""
        _refuse(_source_fault(self.package, self.commit, self.folder))
        return self


class HubSamplerConfig(HubConfig, SamplerConfig):
    """Settings of `optunahub` as a sampler."""


class HubPrunerConfig(HubConfig, PrunerConfig):
    """Settings of `optunahub` as a pruner."""


def _refuse(fault: str) -> None:
    if fault:
        raise ValueError(fault)


def _source_fault(package: str, commit: str | None, folder: Path | None) -> str:
    if not _PACKAGE.fullmatch(package):
        return f"package '{package}' must be a path in the registry, e.g. samplers/auto_sampler"
    if (commit is None) == (folder is None):
        return "give `commit`, the registry's commit, or `folder`, a copy of the registry: code is never taken unseen"
    if commit is not None and not _COMMIT.fullmatch(commit):
        return f"commit '{commit}' must be all 40 digits of a commit: branches and tags can change what they name"
    return ""
