"""What the storage knows of trials: which one answers a repeated point."""

from __future__ import annotations

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from collm.study import records
from collm.study.records import same_spec


def trial(number: int, state: TrialState, **attributes: object) -> FrozenTrial:
    made = optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs={records.SPEC_HASH: "s", **attributes})
    made.number, made.state = number, state
    return made


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        # A finished twin answers at once, a pruned one before a running one; the first of several.
        ([TrialState.RUNNING, TrialState.PRUNED, TrialState.COMPLETE], 2),
        ([TrialState.RUNNING, TrialState.PRUNED], 1),
        ([TrialState.PRUNED, TrialState.COMPLETE, TrialState.COMPLETE], 1),
        ([TrialState.RUNNING, TrialState.RUNNING], 0),
        ([TrialState.FAIL, TrialState.WAITING], None),
    ],
)
def test_the_twin_that_knows_most_answers(states: list[TrialState], expected: int | None) -> None:
    found = same_spec([trial(number, state) for number, state in enumerate(states)], "s", 99)
    assert (None if found is None else found.number) == expected


def test_duplicates_waiting_trials_and_the_trial_itself_do_not_answer() -> None:
    trials = [
        trial(0, TrialState.COMPLETE, **{records.DUPLICATE_OF: 5}),
        trial(1, TrialState.RUNNING, **{records.WAITS_FOR: 0}),
        trial(2, TrialState.COMPLETE),
        trial(3, TrialState.COMPLETE),
    ]
    found = same_spec(trials, "s", 2)
    assert found is not None
    assert found.number == 3
    assert same_spec(trials, "other", 2) is None
