"""The `study` section of a study file: what is searched, how, and where the trials are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from collm.component import Kind, location_field
from collm.contracts.search import PrunerConfig, SamplerConfig
from collm.spec.sections import Section

Direction = Literal["maximize", "minimize"]
# Defaults of a study file.
DEFAULT_SAMPLER = "tpe"
DEFAULT_PRUNER = "none"


def _named_by_default(kind: Kind, description: str) -> Any:
    """A component whose name may be left out: the reader of studies fills it in."""
    extra: dict[str, Any] = {"x-collm-component": kind, "x-collm-name-filled": True}
    return Field(default=None, description=description, json_schema_extra=extra)


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
        description="Trials in total, over all workers and repeated commands, `from_runs` aside; null = all points of "
        "a grid.",
    )
    hours: float | None = Field(
        default=None, gt=0, description="Hours after which a command starts no further trial; null = no limit."
    )
    trial_minutes: float | None = Field(
        default=None,
        gt=0,
        description="Minutes after which an attempt at a trial is ended and the trial failed; null = no limit.",
    )
    attempts: int = Field(
        default=3, ge=1, description="Times that a trial is begun, where its processes are killed from outside."
    )
    sampler: SamplerConfig | None = _named_by_default(
        "sampler", f"How the next point is chosen; without a name: {DEFAULT_SAMPLER}."
    )
    pruner: PrunerConfig | None = _named_by_default(
        "pruner",
        "When a hopeless trial is stopped, at the validation points of its last training stage; without a name: "
        f"{DEFAULT_PRUNER}.",
    )
    storage: str | None = Field(
        default=None,
        description="`journal:PATH`, `sqlite:///PATH` or `postgresql://USER@HOST/DATABASE`; relative paths start at "
        "the study file's folder; null = `studies.log` in the runs directory.",
    )
    enqueue: tuple[dict[str, Any], ...] = Field(
        default=(),
        description="Points that are tried first, each once: searched path -> value; what is left out is sampled.",
    )
    from_runs: tuple[Path, ...] = location_field(
        (),
        description="Run folders, or folders of them, whose finished runs are taken in as trials where they are points "
        "of this study.",
    )
    search: dict[str, Any] = Field(
        description="Dotted path of a spec's field -> `{choices: [...]}`, `{low, high, log, step}`, or a fixed value; "
        "`choices` as a mapping gives each choice its own further search."
    )
