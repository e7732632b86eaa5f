"""A study whose space changed goes on by itself where nothing is lost; where something is, it says how much."""

from __future__ import annotations

import pytest
from study_fakes import STUDY, Studies

from collm.errors import SpecError
from collm.locks import Holder
from collm.study import records
from collm.study.carry_over import continue_where_it_fits
from collm.study.records import ClaimedTrial, Outcome, Owner
from collm.study.storage import StudyStorage

WIDER = STUDY.replace("[2, 4, 8]", "[2, 4, 8, 16]").replace("high: 1.0e-2", "high: 1.0e-1")


def work_off(studies: Studies, text: str = STUDY, *, fails: int = -1) -> None:
    queue = studies.queue(text)
    while isinstance(found := queue.claim(), ClaimedTrial):
        queue.finish(
            found.number,
            Outcome("failed", cause="boom") if found.number == fails else Outcome("complete", values=(0.5,)),
        )


def goes_on(studies: Studies, text: str) -> str:
    checked = studies.check(text)
    return continue_where_it_fits(checked, StudyStorage(checked.file.storage))


def test_a_wider_space_goes_on_with_every_finished_trial(studies: Studies) -> None:
    work_off(studies, fails=3)
    said = goes_on(studies, WIDER)
    assert said.startswith("the search space changed: 5 finished trials carried over; the old study is search@")
    trials = studies.queue(WIDER).trials()
    assert [trial.values for trial in trials] == [[0.5]] * 5
    assert 16 in trials[0].distributions["encoder.embedding_size"].choices  # type: ignore[attr-defined]
    assert goes_on(studies, WIDER) == ""
    work_off(studies, WIDER)
    assert len(studies.queue(WIDER).trials()) == 6


def test_a_narrower_space_that_loses_trials_is_asked_about(studies: Studies) -> None:
    work_off(studies)
    sizes = [trial.params["encoder.embedding_size"] for trial in studies.queue().trials()]
    kept = sum(size != 8 for size in sizes)
    assert 0 < kept < 6
    with pytest.raises(
        SpecError, match=rf"choices \[2, 4, 8\] there, .*{kept} of 6 finished trials lie in .*--migrate"
    ):
        goes_on(studies, STUDY.replace("[2, 4, 8]", "[2, 4]"))
    assert len(studies.queue().trials()) == 6


def test_a_narrower_range_around_every_trial_goes_on(studies: Studies) -> None:
    work_off(studies)
    rates = [trial.params["encoder.fit.learning_rate"] for trial in studies.queue().trials()]
    text = STUDY.replace("low: 1.0e-4", f"low: {min(rates)!r}")
    assert "6 finished trials carried over" in goes_on(studies, text)


def test_what_trials_came_from_is_carried_over_under_their_new_numbers(studies: Studies) -> None:
    studies.queue().record_search()
    work_off(studies, fails=1)
    studies.queue(STUDY.replace("random", "tpe")).record_search()
    goes_on(studies, WIDER)
    searches = studies.queue(WIDER).study.user_attrs[records.SEARCHES]
    # Of six trials one failed and stays behind.
    assert [(each["from_trial"], each["sampler"]["settings"]["name"]) for each in searches] == [
        (0, "random"),
        (5, "tpe"),
    ]


def test_running_trials_are_not_cut_off(studies: Studies) -> None:
    queue = studies.queue()
    assert isinstance(queue.claim(), ClaimedTrial)
    with pytest.raises(SpecError, match="1 of its trials are running: stop their commands first"):
        goes_on(studies, WIDER)
    # A command that was killed holds nothing.
    queue._set(queue.trials()[0], records.OWNER, Owner(Holder(2**22 + 1, Holder.this_process().host, 1.0)).plain())
    assert "0 finished trials carried over" in goes_on(studies, WIDER)


@pytest.mark.parametrize("changed", [STUDY, STUDY.replace("valid.auc", "valid.uauc")])
def test_other_changes_are_left_to_the_opening(studies: Studies, changed: str) -> None:
    work_off(studies)
    assert goes_on(studies, changed) == ""


def test_a_kill_in_between_is_repaired_by_the_same_command(studies: Studies, monkeypatch: pytest.MonkeyPatch) -> None:
    work_off(studies)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("collm.study.carry_over._carry_over", killed)
        with pytest.raises(KeyboardInterrupt):
            goes_on(studies, WIDER)
    assert "6 finished trials carried over" in goes_on(studies, WIDER)
    assert len(studies.queue(WIDER).trials()) == 6
