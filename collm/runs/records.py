"""The form of `results.json` (schema 1). Keys may be added in later versions; none is renamed or removed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from collm.errors import RunError

StageKind = Literal["prepare_data", "fit_encoder", "tune", "evaluate", "metrics", "rank"]
TRAINING: tuple[StageKind, ...] = ("fit_encoder", "tune")
_NUMBERED = re.compile(r"tune_(\d+)")


class Record(BaseModel):
    """Base of the records: values are frozen and finite, keys of later versions are kept."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)


class MetricRecord(Record):
    """One metric on one slice."""

    value: float | None = Field(description="The metric; null where no row or user could be used.")
    low: float | None = Field(default=None, description="Lower end of the 95% interval (users resampled).")
    high: float | None = Field(default=None, description="Upper end of the 95% interval (users resampled).")
    n: int = Field(ge=0, description="Rows or users that the value averages over.")
    skipped: dict[str, int] = Field(default_factory=dict, description="Reason -> rows or users left out for it.")
    reason: str | None = Field(default=None, description="Why `value` is null.")


class StageTiming(Record):
    """Cost of one stage."""

    kind: StageKind | None = Field(default=None, description="Kind of stage; runs of versions before 0.2 have none.")
    seconds: float = Field(ge=0, description="Wall time in this command, seconds.")
    reused: bool = Field(description="Whether a finished stage was taken instead of working.")
    work_seconds: float | None = Field(
        default=None, description="Wall time of the work, interrupted attempts included, seconds."
    )

    @property
    def own_seconds(self) -> float:
        """Seconds of the stage's work, wherever it was done."""
        return self.work_seconds or self.seconds


class CurvePoint(Record):
    """One validation while training."""

    step: int = Field(description="Optimiser steps so far.")
    valid_auc: float = Field(description="AUC on the validation rows.")


class StageFacts(Record):
    """What a stage states of its work; keys depend on its kind, and those read elsewhere are named here."""

    kind: StageKind | None = Field(default=None, description="Kind of stage; null for facts of no stage.")
    number: int | None = Field(default=None, description="Number of a tuning step, from 1.")
    rows: Any = Field(default=None, description="Tuning: training rows; scoring: rows per split.")
    optimiser_steps: int | None = Field(default=None, description="Optimiser steps run.")
    best_step: int | None = Field(default=None, description="Step of the best validation.")
    curve: list[CurvePoint] = Field(default_factory=list, description="Validations while training.")


class ProtocolRecord(Record):
    """The rules that rows were scored and sliced by."""

    visibility: str = Field(default="unknown", description="Which earlier rows a history may show.")
    tie_rule: str = Field(default="unknown", description="Order of rows with the same time.")
    sees_earlier_rows: bool = Field(
        default=True, description="Whether a score may depend on earlier rows of the evaluation period."
    )


class RankingFacts(Record):
    """The ranked lists of one split and one kind of candidates."""

    users: int = Field(description="Lists, one per user.")
    positives: int = Field(description="Positives that are ranked.")
    candidates: float = Field(description="Mean number of candidates per user.")
    depth: int = Field(default=0, description="Best items of every list that `ranking.parquet` holds.")
    tied: int = Field(default=0, description="Positives with the score of another candidate, ordered at random.")
    shortlist: str = Field(default="", description="What chose the candidates that the language model ranked.")
    size: int = Field(default=0, description="Candidates per user that it ranked at most; 0 = all.")
    scored: int = Field(default=0, description="(User, candidate) pairs that it scored.")
    shortlist_recall: float | None = Field(
        default=None, description="Mean share of a user's positives in the short list: the most that it can rank first."
    )
    shortlist_hit: float | None = Field(default=None, description="Share of users with a positive in the short list.")


class GapRecord(Record):
    """A paired difference of a metric."""

    value: float = Field(description="Difference.")
    low: float = Field(description="Lower end of the 95% interval (users resampled).")
    high: float = Field(description="Upper end of it.")


class WindowRecord(Record):
    """One window of prequential evaluation."""

    number: int = Field(description="Number, from 0.")
    first: int = Field(description="Time of the first row, seconds since 1970 UTC.")
    last: int = Field(description="Time of the last row.")
    rows: int = Field(description="Rows.")
    users: int = Field(description="Users.")
    new_users: int = Field(description="Users without a row in training, validation and the windows before.")
    new_items: int = Field(description="Items without a row in training, validation and the windows before.")
    update_seconds: float = Field(description="Seconds of the update before the window.")
    metrics: dict[str, MetricRecord] = Field(description="Metric -> record, of the updated model.")
    frozen: dict[str, MetricRecord] = Field(description="The same of the model that training made.")
    difference: dict[str, GapRecord] = Field(
        default_factory=dict, description="Metric -> updated minus frozen, over the same users."
    )


SliceMetrics = dict[str, dict[str, MetricRecord]]
FloorMetrics = dict[str, dict[str, dict[str, MetricRecord]]]  # slice -> floor -> metric -> record


class RunResults(Record):
    """Content of `results.json`."""

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
    ranking: dict[str, dict[str, SliceMetrics]] = Field(
        default_factory=dict, description="Split -> candidates -> slice -> metric -> record, of `evaluate.ranking`."
    )
    ranking_floors: dict[str, dict[str, FloorMetrics]] = Field(
        default_factory=dict, description="Split -> candidates -> slice -> floor -> metric -> record."
    )
    ranking_facts: dict[str, dict[str, RankingFacts]] = Field(
        default_factory=dict, description="Split -> candidates -> what the ranked lists are."
    )
    windows: list[WindowRecord] = Field(
        default_factory=list, description="Windows of the test split, of `evaluate.protocol: prequential`."
    )
    timing: dict[str, StageTiming] = Field(default_factory=dict, description="Stage -> cost.")
    counts: dict[str, int] = Field(default_factory=dict, description="Rows per split, users, items.")
    full_counts: dict[str, int] = Field(default_factory=dict, description="The same before any limit.")
    inputs: dict[str, str] = Field(
        default_factory=dict, description="What decides the results beside the spec, hashed: code, dataset, backbone."
    )
    stages: dict[str, str] = Field(
        default_factory=dict, description="Stage -> fingerprint of the stages that made the scores."
    )
    protocol: ProtocolRecord = Field(default=ProtocolRecord(), description="The rules behind the numbers.")
    floor_needs: dict[str, list[str]] = Field(default_factory=dict, description="Floor -> what it reads.")
    facts: dict[str, StageFacts] = Field(default_factory=dict, description="Stage, `backbone` or `ensemble` -> facts.")
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

    def plain(self) -> dict[str, Any]:
        """Returns the content as it is written to disk."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)

    @property
    def is_whole(self) -> bool:
        """Whether no limit left out rows."""
        return self.counts == self.full_counts

    @property
    def is_ensemble(self) -> bool:
        """Whether the scores are the mean of other runs' scores."""
        return "ensemble" in self.facts

    def tuning_steps(self) -> list[tuple[str, StageFacts]]:
        """Returns name and facts of the tuning steps, in their order."""
        found = {
            facts.number or number_of(name): (name, facts)
            for name, facts in self.facts.items()
            if (facts.kind or kind_of(name)) == "tune"
        }
        return [found[number] for number in sorted(found)]

    def seconds(self, *kinds: StageKind) -> dict[str, float]:
        """Returns stage -> seconds of its own work, of some kinds or all."""
        return {
            name: stage.own_seconds
            for name, stage in self.timing.items()
            if not kinds or (stage.kind or kind_of(name)) in kinds
        }


def kind_of(stage: str) -> StageKind:
    """Returns the kind of a stage by its name; records of versions before 0.2 do not state it."""
    return "tune" if _NUMBERED.fullmatch(stage) else stage  # type: ignore[return-value]


def number_of(stage: str) -> int:
    """Returns the number in a stage's name; 0 where it has none."""
    found = _NUMBERED.fullmatch(stage)
    return int(found.group(1)) if found else 0


@dataclass(frozen=True)
class RunOutcome:
    """A finished run as a command sees it.

    Attributes:
        results: Content of `results.json`, with the run's key in this command.
        folder: The run folder.
        reused: Whether it was finished before.
    """

    results: RunResults
    folder: Path
    reused: bool

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> RunOutcome:
        """Returns the outcome that `plain` came from."""
        results = {key: value for key, value in plain.items() if key not in ("run_dir", "reused")}
        return cls(RunResults.model_validate(results), Path(str(plain["run_dir"])), bool(plain["reused"]))

    def plain(self) -> dict[str, Any]:
        """Returns the results with `run_dir` and `reused`, as `collm run --json` prints them."""
        return self.results.plain() | {"run_dir": str(self.folder), "reused": self.reused}


@dataclass(frozen=True)
class SuiteOutcome:
    """What a suite gave.

    Attributes:
        suite: Its name.
        runs: Outcomes of finished runs and ensembles, in the order of the file.
        failed: Key -> message of the runs that failed.
    """

    suite: str
    runs: tuple[RunOutcome, ...]
    failed: Mapping[str, str]

    def plain(self) -> dict[str, Any]:
        """Returns plain data, as `collm run --json` prints it."""
        runs = [each.plain() for each in self.runs]
        return {"schema": 1, "suite": self.suite, "runs": runs, "failed": dict(self.failed)}
