"""The `study` section of a study file: what is searched, how, and where the trials are kept."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from collm.spec.model import Section

Direction = Literal["maximize", "minimize"]
SamplerName = Literal["tpe", "random", "grid", "gp", "nsga2"]
PrunerName = Literal["none", "median", "hyperband"]

_STARTUP: tuple[SamplerName, ...] = ("tpe", "gp")


class SamplerConfig(Section):
    """How the next point is chosen."""

    name: SamplerName = Field(
        default="tpe",
        description="`tpe`: tree of Parzen estimators; `gp`: Gaussian process; `nsga2`: genetic, for several "
        "objectives; `random`; `grid`: every point once.",
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="Seed; the same history gives the same next point.")
    startup_trials: int | None = Field(
        default=None, ge=1, description="Random trials before `tpe` or `gp` model anything; null = 10."
    )
    population_size: int | None = Field(default=None, ge=2, description="Trials per generation of `nsga2`; null = 50.")

    @model_validator(mode="after")
    def settings_belong_to_the_sampler(self) -> SamplerConfig:
        """Refuses a setting that the named sampler does not read."""
        if self.startup_trials is not None and self.name not in _STARTUP:
            raise ValueError(f"startup_trials is read by {' and '.join(_STARTUP)} only, the sampler is {self.name}")
        if self.population_size is not None and self.name != "nsga2":
            raise ValueError(f"population_size is read by nsga2 only, the sampler is {self.name}")
        return self


class PrunerConfig(Section):
    """When a hopeless trial is stopped, at the validation points of its last training stage."""

    name: PrunerName = Field(
        default="none",
        description="`median`: worse than the median of earlier trials at the same validation; `hyperband`: successive "
        "halving in brackets; `none`.",
    )
    startup_trials: int | None = Field(
        default=None, ge=0, description="Finished trials before `median` stops anything; null = 5."
    )
    warmup: int | None = Field(default=None, ge=0, description="Validations that `median` always grants; null = 0.")
    min_resource: int | None = Field(
        default=None, ge=1, description="Validations that `hyperband` always grants; null = 1."
    )
    max_resource: int | None = Field(
        default=None, ge=1, description="Validations of a full trial for `hyperband`; null = those of the first one."
    )
    reduction_factor: int | None = Field(
        default=None, ge=2, description="`hyperband` keeps one trial in this many at each rung; null = 3."
    )

    @model_validator(mode="after")
    def settings_belong_to_the_pruner(self) -> PrunerConfig:
        """Refuses a setting that the named pruner does not read."""
        readers: dict[str, tuple[str, ...]] = {
            "median": ("startup_trials", "warmup"),
            "hyperband": ("min_resource", "max_resource", "reduction_factor"),
        }
        for pruner, fields in readers.items():
            given = [field for field in fields if getattr(self, field) is not None]
            if given and self.name != pruner:
                raise ValueError(f"{', '.join(given)} is read by {pruner} only, the pruner is {self.name}")
        return self


class StudySection(Section):
    """What is searched, by which rule, for how long, and where the trials are kept."""

    objective: str | tuple[str, ...] = Field(
        description="`valid[.SLICE].METRIC`, e.g. `valid.auc`, or `cost.seconds_per_sample`, `cost.fit_seconds`; a "
        "list searches several at once."
    )
    direction: Direction | tuple[Direction, ...] | None = Field(
        default=None, description="`maximize` or `minimize`, one per objective; null = what the metric says of itself."
    )
    trials: int | None = Field(
        default=None,
        ge=1,
        description="Trials in total, over all workers and repeated commands; null = all points of a grid.",
    )
    hours: float | None = Field(
        default=None, gt=0, description="Hours after which a command starts no further trial; null = no limit."
    )
    attempts: int = Field(
        default=3, ge=1, description="Times that a trial is begun, where its processes are killed from outside."
    )
    sampler: SamplerConfig = Field(default=SamplerConfig(), description="How the next point is chosen.")
    pruner: PrunerConfig = Field(default=PrunerConfig(), description="When a hopeless trial is stopped.")
    storage: str | None = Field(
        default=None,
        description="`journal:PATH`, `sqlite:///PATH` or `postgresql://USER@HOST/DATABASE`; relative paths start at "
        "the study file's folder; null = `studies.log` in the runs directory.",
    )
    search: dict[str, Any] = Field(
        description="Dotted path of a spec's field -> `{choices: [...]}`, `{low, high, log, step}`, or a fixed value; "
        "`choices` as a mapping gives each choice its own further search."
    )
