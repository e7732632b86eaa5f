"""The form of `results.json` (schema 1). Keys may be added in later versions; none is renamed or removed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from collm.errors import RunError


class MetricRecord(BaseModel):
    """One metric on one slice."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    value: float | None = Field(description="The metric; null where no row or user could be used.")
    low: float | None = Field(default=None, description="Lower end of the 95% interval (users resampled).")
    high: float | None = Field(default=None, description="Upper end of the 95% interval (users resampled).")
    n: int = Field(ge=0, description="Rows or users that the value averages over.")
    skipped: dict[str, int] = Field(default_factory=dict, description="Reason -> rows or users left out for it.")
    reason: str | None = Field(default=None, description="Why `value` is null.")


class StageTiming(BaseModel):
    """Cost of one stage."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    seconds: float = Field(ge=0, description="Wall time in this command, seconds.")
    reused: bool = Field(description="Whether a finished stage was taken instead of working.")


SliceMetrics = dict[str, dict[str, MetricRecord]]
FloorMetrics = dict[str, dict[str, dict[str, MetricRecord]]]


class RunResults(BaseModel):
    """Content of `results.json`."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    schema_version: Literal[1] = Field(alias="schema", description="Version of this form.")
    name: str = Field(description="The spec's name.")
    run: str = Field(description="Key of the run within its suite, else the name.")
    spec_hash: str = Field(description="Hash of the resolved spec.")
    seed: int = Field(description="Seed of the run.")
    profile: str = Field(description="Profile that filled the fields that the user left out.")
    metrics: dict[str, SliceMetrics] = Field(description="Split -> slice -> metric -> record.")
    floors: dict[str, FloorMetrics] = Field(
        default_factory=dict, description="Split -> slice -> floor -> metric -> record."
    )
    timing: dict[str, StageTiming] = Field(default_factory=dict, description="Stage -> cost.")
    counts: dict[str, int] = Field(default_factory=dict, description="Rows per split, users, items.")
    inputs: dict[str, str] = Field(
        default_factory=dict, description="What decides the results beside the spec, hashed: code, dataset, backbone."
    )
    stages: dict[str, str] = Field(
        default_factory=dict, description="Stage -> fingerprint of the stages that made the scores."
    )
    notes: list[str] = Field(default_factory=list, description="Sentences that every table of this run must state.")

    @classmethod
    def check(cls, content: Mapping[str, Any], *, place: str) -> RunResults:
        """Returns the validated record.

        Args:
            content: Parsed JSON.
            place: File name for the message.

        Raises:
            RunError: If the form is not that of schema 1; names every field that is wrong.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
            raise RunError(f"{place}: not a results file of schema 1: {faults}") from error


class SuiteResults(BaseModel):
    """What `collm run SUITE --json` prints."""

    model_config = ConfigDict(extra="allow", frozen=True)

    schema_version: Literal[1] = Field(alias="schema", description="Version of this form.")
    suite: str = Field(description="The suite's name.")
    runs: list[RunResults] = Field(description="Results of each run, in the order of the file.")
