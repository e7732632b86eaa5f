"""What is kept of each trial next to Optuna's own fields: user attributes, which every tool on the storage shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from optuna.trial import FrozenTrial, TrialState

from collm.locks import Holder
from collm.spec.model import ResolvedSpec

OWNER = "owner"
ATTEMPTS = "attempts"
SPEC_HASH = "spec_hash"
WAITS_FOR = "waits_for"
DUPLICATE_OF = "duplicate_of"
CAUSE = "cause"
TRACEBACK = "traceback"
REPORTED = "reported"
SECONDS = "seconds"
STAGES = "stages"
RUN_DIR = "run_dir"
MIGRATED_FROM = "migrated_from"
ENQUEUED = "enqueued"
TAKEN_FROM = "taken_from"
# Attributes of the study.
DEFINITION = "collm"
SEARCHES = "searches"

OutcomeKind = Literal["complete", "pruned", "failed", "killed"]
# What Optuna calls the kinds.
STATES: dict[OutcomeKind, TrialState] = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "killed": TrialState.FAIL,
}
# A traceback longer than this keeps its end, where the cause is.
MAX_TRACEBACK = 16_000


@dataclass(frozen=True)
class Outcome:
    """How one attempt at a trial ended.

    Attributes:
        kind: `killed` = its process was ended from outside, so it may be begun again.
        values: One per objective where complete.
        cause: One line where pruned, failed or killed.
        traceback: Where one is known.
        facts: Attributes to keep: seconds, stages, run folder.
    """

    kind: OutcomeKind
    values: tuple[float, ...] = ()
    cause: str = ""
    traceback: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ClaimedTrial:
    """A trial that this command runs next.

    Attributes:
        number: Number of the trial.
        spec: What it runs.
        attempt: 1 for the first time.
        previous: The process that worked on it before; None for the first time and after a release.
        seconds: How long earlier attempts took; of an attempt whose command was killed, up to its last sign of life.
    """

    number: int
    spec: ResolvedSpec
    attempt: int
    previous: Holder | None
    seconds: float = 0.0


@dataclass(frozen=True)
class NoTrial:
    """There is nothing to start now.

    Attributes:
        over: Whether every trial is finished; otherwise some are running, here or elsewhere, and may be killed.
    """

    over: bool


@dataclass(frozen=True)
class Owner:
    """The process that works on a trial.

    Attributes:
        holder: The process of the command.
        beat: Counts up while it lives, for commands on other hosts.
    """

    holder: Holder
    beat: int = 0

    def plain(self) -> dict[str, Any]:
        """Returns the owner as JSON data."""
        return {**asdict(self.holder), "beat": self.beat}


def owner_in(attributes: Mapping[str, Any]) -> Owner | None:
    """Returns the process that works on a trial with these attributes, None where it is free."""
    content = attributes.get(OWNER)
    if not content:
        return None
    return Owner(Holder(int(content["pid"]), str(content["host"]), float(content["start"])), int(content["beat"]))


def is_held(trial: FrozenTrial) -> bool:
    """Whether a process works on a trial, as far as this host can tell: one on another host is taken to live."""
    owner = owner_in(trial.user_attrs)
    if trial.state != TrialState.RUNNING or owner is None:
        return False
    return owner.holder.host != Holder.this_process().host or owner.holder.is_alive()


def attempts_of(trial: FrozenTrial) -> int:
    """Returns how often a trial was begun."""
    return n_attempts(trial.user_attrs)


def n_attempts(attributes: Mapping[str, Any]) -> int:
    """Returns how often a trial with these attributes was begun.

    Once is not stored, because every write costs milliseconds. An answered repeat was never begun.
    """
    begun = SPEC_HASH in attributes and DUPLICATE_OF not in attributes
    return int(attributes.get(ATTEMPTS, 1 if begun else 0))


def is_waiting_for(trial: FrozenTrial) -> int | None:
    """Returns the number of the running trial with the same spec that this one waits for."""
    number = trial.user_attrs.get(WAITS_FOR)
    return None if number is None else int(number)


def same_spec(trials: Sequence[FrozenTrial], spec_hash: str, number: int) -> FrozenTrial | None:
    """Returns the trial that ran this spec, or runs it now; None where there is none. Repeats do not count."""
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    found = [
        each
        for each in trials
        if each.user_attrs.get(SPEC_HASH) == spec_hash
        and each.number != number
        and each.state in states
        and is_waiting_for(each) is None
        and DUPLICATE_OF not in each.user_attrs
    ]
    return min(found, key=lambda each: (states.index(each.state), each.number), default=None)


def is_kept(index: int) -> bool:
    """Whether the n-th validation value is stored: all of the first 20, then ever fewer, so that curves stay small.

    Args:
        index: Number of the validation from 1; the same ones are kept in every trial, so that they can be compared.
    """
    if index <= 20:
        return True
    return index % (5 if index <= 100 else 25 if index <= 500 else 100) == 0
