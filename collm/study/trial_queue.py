"""The trials of a study in its storage: who works on what, decided under one lock, so that none is lost or doubled."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from collm.errors import DataError, RunError, SpecError
from collm.locks import Holder
from collm.spec.contents import hash_with
from collm.study import records
from collm.study.check import CheckedStudy
from collm.study.definition import changed_files
from collm.study.known_points import untried, untried_note
from collm.study.records import ClaimedTrial, NoTrial, Outcome, Owner, attempts_of, is_waiting_for, same_spec
from collm.study.search import Search
from collm.study.storage import StudyStorage
from collm.study.study_file import Objective

# An owner on another host whose beat does not change this long, as seen from here, is taken for dead.
STALE_S = 180.0


class TrialQueue:
    """Hands out the trials of a study to one command and stores how they end."""

    def __init__(self, checked: CheckedStudy, storage: StudyStorage, study: Study) -> None:
        """Takes the checked study, its open storage and Optuna's study in it."""
        self.checked, self._file, self._storage = checked, checked.file, storage
        self.study = study
        self._search = Search(checked)
        self._has_pruner = False
        self._me = Owner(Holder.this_process())
        self._seen_beats: dict[int, tuple[int, float]] = {}
        self._grid = list(self._file.space.grid()) if "every-point" in self._file.needs else []

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What the study optimises."""
        return self._file.objectives

    @property
    def total(self) -> int:
        """Trials in total, finished runs that were taken in among them."""
        return self._total(self.trials())

    def _total(self, trials: Sequence[FrozenTrial]) -> int:
        limits = [len(self._grid)] if self._grid else []
        if self._file.section.trials is not None:
            n_taken = sum(records.TAKEN_FROM in trial.user_attrs for trial in trials)
            limits.append(self._file.section.trials + n_taken)
        return min(limits)

    @property
    def trial_minutes(self) -> float | None:
        """Minutes that an attempt at a trial may take; None = no limit."""
        return self._file.section.trial_minutes

    def trials(self) -> list[FrozenTrial]:
        """Returns all trials, by number."""
        with self._storage.guard():
            return list(self.study.get_trials(deepcopy=False))

    def claim(self, *, start_new: bool = True) -> ClaimedTrial | NoTrial:
        """Decides what this command runs next: a trial whose command is gone, else a new one where it may start one."""
        with self._storage.lock(self._file.name):
            # What counts here changes under this lock only, so one look is enough for one decision.
            trials = self._settled(self.trials())
            for trial in trials:
                if trial.state == TrialState.RUNNING and self._is_free(trial):
                    if claimed := self._take_over(trial, trials):
                        return claimed
                    trials = self.trials()
            while start_new and sum(trial.state != TrialState.WAITING for trial in trials) < self._total(trials):
                if claimed := self._begin(trials):
                    return claimed
                trials = self.trials()
            return NoTrial(over=not any(trial.state == TrialState.RUNNING for trial in trials))

    def report(self, number: int, step: int, value: float) -> bool:
        """Stores a validation value.

        Args:
            number: Number of the trial.
            step: Optimiser step of the validation within the last training stage.
            value: Best validation AUC of this attempt so far.

        Returns:
            Whether the trial should stop.
        """
        if len(self.objectives) > 1:
            return False  # Optuna keeps validation values of single objectives only
        with self._storage.guard():
            trial = self.trials()[number]
            last_index, last_step, *last_best = trial.user_attrs.get(records.REPORTED, (0, 0))
            if step <= last_step:
                return False
            index = last_index + 1
            # A continued attempt knows its own validations alone; studies of earlier versions have no best value here.
            best = max([value, *(last_best or trial.intermediate_values.values())])
            self._set(trial, records.REPORTED, [index, step, best])
            if not records.is_kept(index):
                return False
            running = self._running(trial)
            running.report(best, index)
            if not self._has_pruner:
                self.study.pruner, self._has_pruner = self._search.pruner(), True
            with self._search.naming("pruner", self._storage):
                return bool(running.should_prune())

    def beat(self, seconds: Mapping[int, float]) -> None:
        """Shows other hosts that this command still works on its trials; takes number -> seconds so far."""
        self._me = replace(self._me, beat=self._me.beat + 1)
        with self._storage.guard():
            trials = self.trials()
            for number, taken in seconds.items():
                if self._is_mine(trials[number]):
                    self._set(trials[number], records.OWNER, self._me.plain())
                    self._set(trials[number], records.SECONDS, taken)

    def finish(self, number: int, outcome: Outcome) -> FrozenTrial | None:
        """Stores how an attempt ended.

        After `killed` the trial is free again, until its attempts are used up.

        Returns:
            The finished trial; None where it goes on, or another command has it by now.
        """
        with self._storage.lock(self._file.name):
            trial = self.trials()[number]
            if not self._is_mine(trial):
                return None
            if outcome.kind == "killed" and attempts_of(trial) < self._file.section.attempts:
                for key, value in {**outcome.facts, records.CAUSE: outcome.cause, records.OWNER: None}.items():
                    self._set(trial, key, value)
                return None
            return self._tell(trial, outcome)

    def release(self, number: int) -> None:
        """Releases an unfinished trial, so that this or another command continues it; this costs no attempt."""
        with self._storage.lock(self._file.name):
            trial = self.trials()[number]
            if self._is_mine(trial):
                self._set(trial, records.ATTEMPTS, attempts_of(trial) - 1)
                self._set(trial, records.OWNER, None)

    def _begin(self, trials: Sequence[FrozenTrial]) -> ClaimedTrial | None:
        """Starts a new trial; None where it is answered at once and another may follow."""
        if not any(trial.state == TrialState.WAITING for trial in trials):
            self._enqueue(trials)
        self.study.sampler = self._search.sampler(len(trials))
        with self._search.naming("sampler", self._storage):
            trial = self.study.ask()
        return self._prepare(trial, {}, trials)

    def _enqueue(self, trials: Sequence[FrozenTrial]) -> None:
        """Decides the next point where that is not the sampler's to choose: a known one, else the next of a grid."""
        for known in untried(self.checked.known_points, trials):
            self.study.enqueue_trial(dict(known.point), user_attrs={records.ENQUEUED: known.key})
            return
        if self._grid:
            tried = [{name: trial.params.get(name) for name in self._grid[0]} for trial in trials]
            self.study.enqueue_trial(next(point for point in self._grid if point not in tried))

    def untried_note(self) -> str:
        """Returns a sentence on points of `study.enqueue` that `study.trials` leaves no trial for; empty without."""
        trials = self.trials()
        return untried_note(self.checked.known_points, trials, n_trials=self._total(trials))

    def _take_over(self, frozen: FrozenTrial, trials: Sequence[FrozenTrial]) -> ClaimedTrial | None:
        if attempts_of(frozen) >= self._file.section.attempts:
            cause = frozen.user_attrs.get(records.CAUSE) or "its command was killed"
            self._tell(frozen, Outcome("failed", cause=f"begun {attempts_of(frozen)} times: {cause}"))
            return None
        self.study.sampler = self._search.sampler(frozen.number)
        return self._prepare(self._running(frozen), frozen.user_attrs, trials)

    def _prepare(
        self, trial: Trial, attributes: Mapping[str, Any], trials: Sequence[FrozenTrial]
    ) -> ClaimedTrial | None:
        """Samples what is not sampled yet and resolves it; answers repeats and points that do not validate."""
        try:
            with self._search.naming("sampler", self._storage):
                point = self._file.space.suggest(trial)
            spec = self.checked.trial(point)
            contents = self.checked.contents(spec)
        except (SpecError, DataError) as error:
            cause = f"does not validate: {str(error).splitlines()[0]}"
            self._tell(trial, Outcome("failed", cause=cause, traceback=str(error)))
            return None
        if changed := changed_files(self.study.user_attrs.get(records.DEFINITION), contents):
            raise RunError(
                f"{self._file.name}: the contents of {', '.join(changed)} changed since the study was begun: trials "
                "cannot be compared. Put the old files back, or give the study another `name`"
            )
        identity = hash_with(spec, contents)
        twin = same_spec(trials, identity, trial.number)
        if twin is not None and twin.state == TrialState.RUNNING:
            self._set(trial, records.WAITS_FOR, twin.number)
            self._set(trial, records.OWNER, None)
            return None
        if twin is not None:
            self._answer(trial, twin)
            return None
        attempt = records.n_attempts(attributes) + 1
        self._set(trial, records.OWNER, self._me.plain())
        if attempt > 1 or records.ATTEMPTS in attributes:
            self._set(trial, records.ATTEMPTS, attempt)
        # The hash comes last: with it, the trial counts as begun.
        self._set(trial, records.SPEC_HASH, identity)
        previous = records.owner_in(attributes)
        taken = float(attributes.get(records.SECONDS, 0.0))
        return ClaimedTrial(trial.number, spec, attempt, previous.holder if previous else None, taken)

    def _settled(self, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Answers trials whose twin is finished; where the twin failed, they are free to run themselves."""
        changed = False
        for trial in trials:
            twin = is_waiting_for(trial)
            if trial.state != TrialState.RUNNING or twin is None or not trials[twin].state.is_finished():
                continue
            changed = True
            if trials[twin].state == TrialState.FAIL:
                self._set(trial, records.WAITS_FOR, None)
            else:
                self._answer(trial, trials[twin])
        return self.trials() if changed else trials

    def _answer(self, trial: Trial | FrozenTrial, twin: FrozenTrial) -> None:
        facts: dict[str, Any] = {records.DUPLICATE_OF: twin.number, records.SECONDS: 0.0}
        if records.RUN_DIR in twin.user_attrs:
            facts[records.RUN_DIR] = twin.user_attrs[records.RUN_DIR]
        # After the line above, because a hash alone says that the trial was begun.
        facts[records.SPEC_HASH] = twin.user_attrs[records.SPEC_HASH]
        if twin.state == TrialState.PRUNED:
            for step, value in twin.intermediate_values.items():
                self._running(trial).report(value, step)
            self._tell(trial, Outcome("pruned", cause=f"same spec as trial {twin.number}", facts=facts))
        else:
            self._tell(trial, Outcome("complete", values=tuple(twin.values), facts=facts))

    def _tell(self, trial: Trial | FrozenTrial, outcome: Outcome) -> FrozenTrial:
        clean = self._storage.address.clean
        facts: dict[str, Any] = dict(outcome.facts)
        if outcome.kind != "complete":
            facts[records.CAUSE] = clean(outcome.cause)
        if outcome.traceback:
            facts[records.TRACEBACK] = clean(outcome.traceback)[-records.MAX_TRACEBACK :]
        for key, value in facts.items():
            self._set(trial, key, value)
        # Optuna tells the sampler, too.
        self.study.sampler = self._search.sampler(trial.number)
        with self._search.naming("sampler", self._storage):
            return self.study.tell(trial.number, outcome.values or None, state=records.STATES[outcome.kind])

    def record_search(self) -> None:
        """Keeps with the study which sampler and pruner its next trials come from; builds both once.

        Raises:
            SpecError: If one cannot be built.
        """
        with self._storage.lock(self._file.name):
            trials = self.trials()
            self._search.sampler(len(trials))
            self._search.pruner()
            known, used = list(self.study.user_attrs.get(records.SEARCHES, ())), self._search.described()
            if not known or {**known[-1], "from_trial": 0} != {**used, "from_trial": 0}:
                self.study.set_user_attr(records.SEARCHES, [*known, {"from_trial": len(trials), **used}])

    def _is_free(self, trial: FrozenTrial) -> bool:
        """Whether no live process works on a running trial."""
        if is_waiting_for(trial) is not None:
            return False
        owner = records.owner_in(trial.user_attrs)
        if owner is None:
            return True
        if owner.holder.host == self._me.holder.host:
            return not owner.holder.is_alive()
        now = time.monotonic()
        beat, since = self._seen_beats.get(trial.number, (owner.beat, now))
        if beat != owner.beat:
            since = now
        self._seen_beats[trial.number] = (owner.beat, since)
        return now - since > STALE_S

    def _is_mine(self, trial: FrozenTrial) -> bool:
        """Whether this command works on a trial that is not finished."""
        owner = records.owner_in(trial.user_attrs)
        return owner is not None and owner.holder == self._me.holder and not trial.state.is_finished()

    def _running(self, trial: Trial | FrozenTrial) -> Trial:
        return Trial(self.study, trial._trial_id)

    def _set(self, trial: Trial | FrozenTrial, key: str, value: Any) -> None:
        self._storage.optuna.set_trial_user_attr(trial._trial_id, key, value)
