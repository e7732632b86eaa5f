from __future__ import annotations

import pytest
from study_fakes import BASE, STUDY, Studies

from collm.errors import SpecError, UsageError
from collm.study import records
from collm.study.carry_over import migrate
from collm.study.definition import open_study
from collm.study.records import ClaimedTrial, Outcome
from collm.study.storage import StudyStorage


def work_off(studies: Studies, text: str = STUDY) -> None:
    queue = studies.queue(text)
    while isinstance(found := queue.claim(), ClaimedTrial):
        size = found.spec.plain()["encoder"]["embedding_size"]
        queue.finish(found.number, Outcome("complete", values=(size / 10,)))


def test_rules_of_the_search_may_change(studies: Studies) -> None:
    work_off(studies)
    changed = (
        STUDY.replace("trials: 6", "trials: 8")
        .replace("random, seed: 1", "tpe")
        .replace("  trials", "  pruner: {name: median}\n  hours: 2\n  trials")
    )
    work_off(studies, changed)
    assert len(studies.queue(changed).trials()) == 8


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[2, 4, 8]", "[2, 4]", r"search.encoder.embedding_size: choices \[2, 4, 8\] there, choices \[2, 4\] here"),
        ("high: 1.0e-2", "high: 1.0e-1", r"learning_rate: 0.0001 to 0.01 log there, 0.0001 to 0.1 log here"),
        ("valid.auc", "valid.uauc", r"objectives: maximize valid.auc there, maximize valid.uauc here"),
    ],
)
def test_another_question_under_the_same_name_is_refused(studies: Studies, old: str, new: str, message: str) -> None:
    work_off(studies)
    with pytest.raises(
        SpecError, match=f"study.yaml:1:1: .*cannot be combined with this one: .*{message}.*another `name`"
    ):
        studies.queue(STUDY.replace(old, new))


def test_another_base_is_refused(studies: Studies) -> None:
    work_off(studies)
    (studies.folder / "base.yaml").write_text(BASE.replace("epochs: 3", "epochs: 4"), encoding="utf-8")
    with pytest.raises(SpecError, match=r"encoder.fit.epochs: 3 there, 4 here. To go on, give this one another"):
        studies.queue()


def test_trials_of_the_new_space_are_carried_over(studies: Studies) -> None:
    work_off(studies)
    before = studies.queue().trials()
    fitting = [trial for trial in before if trial.params["encoder.embedding_size"] != 8]
    assert 0 < len(fitting) < len(before)
    wider = STUDY.replace("[2, 4, 8]", "[2, 4, 16]").replace(
        "    encoder.fit.learning_rate", "    encoder.fit.epochs: {low: 1, high: 5}\n    encoder.fit.learning_rate"
    )
    checked = studies.check(wider)
    storage = StudyStorage(checked.file.storage)
    carried, left, archive = migrate(checked, storage)
    assert (carried, left) == (len(fitting), len(before) - len(fitting))
    after = studies.queue(wider).trials()
    assert [trial.values for trial in after] == [trial.values for trial in fitting]
    # A field that was not searched before had the value of the base.
    assert {trial.params["encoder.fit.epochs"] for trial in after} == {3}
    assert all(records.MIGRATED_FROM in trial.user_attrs for trial in after)
    old = open_archive(storage, archive)
    assert len(old) == len(before)
    work_off(studies, wider)
    assert len(studies.queue(wider).trials()) == 6
    assert migrate(checked, storage) == (0, 0, "")


def test_duplicates_are_carried_over_with_the_trial_that_ran(studies: Studies) -> None:
    two_points = STUDY.replace("    encoder.fit.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}\n", "")
    work_off(studies, two_points)
    before = [trial for trial in studies.queue(two_points).trials() if trial.params["encoder.embedding_size"] != 8]
    repeats = [trial for trial in before if records.DUPLICATE_OF in trial.user_attrs]
    assert repeats
    smaller = two_points.replace("[2, 4, 8]", "[2, 4, 16]")
    checked = studies.check(smaller)
    carried, _, _ = migrate(checked, StudyStorage(checked.file.storage))
    after = studies.queue(smaller).trials()
    assert carried == len(before)
    assert [(trial.params, trial.values) for trial in after] == [(trial.params, trial.values) for trial in before]
    for old, new in zip(before, after, strict=True):
        twin = new.user_attrs.get(records.DUPLICATE_OF)
        assert (twin is None) == (old not in repeats)
        assert records.attempts_of(new) == (1 if twin is None else 0)
        if twin is not None:
            assert records.DUPLICATE_OF not in after[twin].user_attrs
            assert after[twin].user_attrs[records.SPEC_HASH] == new.user_attrs[records.SPEC_HASH]


def open_archive(storage: StudyStorage, name: str) -> list[object]:
    import optuna

    return list(optuna.load_study(study_name=name, storage=storage.optuna).trials)


def test_an_interrupted_migration_is_done_again(studies: Studies, monkeypatch: pytest.MonkeyPatch) -> None:
    work_off(studies)
    smaller = studies.check(STUDY.replace("[2, 4, 8]", "[2, 4]"))
    storage = StudyStorage(smaller.file.storage)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("collm.study.carry_over._carry_over", killed)
        with pytest.raises(KeyboardInterrupt):
            migrate(smaller, storage)
    carried, left, _ = migrate(smaller, storage)
    assert carried + left == 6
    assert carried > 0


def test_a_torn_archive_is_not_taken_for_the_study(studies: Studies, monkeypatch: pytest.MonkeyPatch) -> None:
    work_off(studies)
    smaller = studies.check(STUDY.replace("[2, 4, 8]", "[2, 4]"))
    storage = StudyStorage(smaller.file.storage)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("optuna.study.Study.add_trials", killed)
        with pytest.raises(KeyboardInterrupt):
            migrate(smaller, storage)
    assert len(studies.queue().trials()) == 6
    monkeypatch.setattr("collm.study.carry_over.time.strftime", lambda *_: "later")
    carried, left, archive = migrate(smaller, storage)
    assert carried + left == 6
    assert archive == "search@later"


def test_running_trials_stop_a_migration(studies: Studies) -> None:
    assert isinstance(studies.queue().claim(), ClaimedTrial)
    smaller = studies.check(STUDY.replace("[2, 4, 8]", "[2, 4]"))
    with pytest.raises(UsageError, match="1 trials of 'search' are running"):
        migrate(smaller, StudyStorage(smaller.file.storage))


def test_more_than_the_space_cannot_be_migrated(studies: Studies) -> None:
    work_off(studies)
    other = studies.check(STUDY.replace("valid.auc", "valid.uauc"))
    with pytest.raises(SpecError, match="more than the search space changed"):
        migrate(other, StudyStorage(other.file.storage))


def test_a_foreign_study_of_the_same_name_is_refused(studies: Studies) -> None:
    import optuna

    checked = studies.check()
    storage = StudyStorage(checked.file.storage)
    optuna.create_study(study_name="search", storage=storage.optuna)
    with pytest.raises(SpecError, match="it was not made by `collm study`"):
        open_study(checked, storage)
