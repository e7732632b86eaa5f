from __future__ import annotations

import dataclasses
import time
from typing import Any

import pytest
from optuna.trial import TrialState, create_trial
from study_fakes import STUDY, Studies

from collm.locks import Holder
from collm.study import records
from collm.study import trial_queue as queue_module
from collm.study.records import ClaimedTrial, NoTrial, Outcome, Owner, is_kept
from collm.study.trial_queue import TrialQueue

ONE_POINT = STUDY.replace("[2, 4, 8]", "[2, 4]").replace(
    "    encoder.fit.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}\n", ""
)
DEAD = Holder(pid=2**22 + 1, host=Holder.this_process().host, start=1.0)
ELSEWHERE = Holder(pid=1, host="another-machine", start=1.0)


def claim(queue: TrialQueue, **options: Any) -> ClaimedTrial:
    found = queue.claim(**options)
    assert isinstance(found, ClaimedTrial)
    return found


def complete(value: float = 0.7) -> Outcome:
    return Outcome("complete", values=(value,))


def as_process(queue: TrialQueue, holder: Holder) -> None:
    """Lets a queue act as another process."""
    queue._me = Owner(holder)


def states(queue: TrialQueue) -> list[str]:
    return [trial.state.name for trial in queue.trials()]


def test_trials_are_counted_over_all_workers(studies: Studies) -> None:
    first, second = studies.queue(), studies.queue()
    numbers = [claim(each).number for each in (first, second, first, second, first, second)]
    assert numbers == list(range(6))
    assert first.claim() == NoTrial(over=False)
    for number in numbers:
        first.finish(number, complete())
    assert second.claim() == NoTrial(over=True)


def test_no_new_trial_after_the_time_is_up(studies: Studies) -> None:
    assert studies.queue().claim(start_new=False) == NoTrial(over=True)


def test_workers_that_start_together_draw_different_points(studies: Studies) -> None:
    first, second = studies.queue(), studies.queue()
    hashes = {claim(each).spec.spec_hash for each in (first, second, first, second)}
    assert len(hashes) == 4


def test_the_same_seed_gives_the_same_points(studies: Studies) -> None:
    specs = []
    for name in ("one", "two"):
        queue = studies.queue(STUDY.replace("name: search", f"name: {name}").replace("random", "tpe"))
        points = []
        for value in (0.5, 0.6, 0.7):
            found = claim(queue)
            points.append(found.spec.plain()["encoder"])
            queue.finish(found.number, complete(value))
        specs.append(points)
    assert specs[0] == specs[1]


def test_a_dead_workers_trial_is_continued_under_its_number(studies: Studies) -> None:
    dead, other = studies.queue(), studies.queue()
    as_process(dead, DEAD)
    lost = claim(dead)
    found = claim(other)
    assert (found.number, found.spec, found.attempt) == (lost.number, lost.spec, 2)
    assert found.previous == DEAD
    assert other.finish(found.number, complete()) is not None
    assert states(other) == ["COMPLETE"]


def test_a_worker_whose_trial_was_taken_cannot_finish_it(studies: Studies) -> None:
    dead, other = studies.queue(), studies.queue()
    as_process(dead, DEAD)
    lost = claim(dead)
    claim(other)
    assert dead.finish(lost.number, complete(0.1)) is None
    assert states(other) == ["RUNNING"]


def test_attempts_are_limited(studies: Studies) -> None:
    queue = studies.queue(STUDY.replace("  trials: 6", "  trials: 1\n  attempts: 2"))
    as_process(queue, DEAD)
    assert claim(queue).attempt == 1
    assert claim(queue).attempt == 2
    assert queue.claim() == NoTrial(over=True)
    (trial,) = queue.trials()
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs[records.CAUSE] == "begun 2 times: its command was killed"


def test_a_killed_process_is_begun_again_then_failed(studies: Studies) -> None:
    queue = studies.queue(STUDY.replace("  trials: 6", "  trials: 1\n  attempts: 2"))
    killed = Outcome("killed", cause="its process was killed (SIGKILL)")
    first = claim(queue)
    assert queue.finish(first.number, killed) is None
    second = claim(queue)
    assert (second.number, second.attempt, second.spec) == (first.number, 2, first.spec)
    failed = queue.finish(second.number, killed)
    assert failed is not None
    assert failed.user_attrs[records.CAUSE] == "its process was killed (SIGKILL)"
    assert states(queue) == ["FAIL"]


def test_an_orderly_stop_costs_no_attempt(studies: Studies) -> None:
    queue = studies.queue()
    first = claim(queue)
    queue.beat({first.number: 7.5})
    queue.release(first.number)
    again = claim(queue)
    assert (again.number, again.attempt, again.previous, again.seconds) == (first.number, 1, None, 7.5)


def test_a_worker_on_another_host_is_dead_when_its_beat_stands_still(
    studies: Studies, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(queue_module.time, "monotonic", lambda: now[0])
    far, here = (
        studies.queue(STUDY.replace("trials: 6", "trials: 1")),
        studies.queue(STUDY.replace("trials: 6", "trials: 1")),
    )
    as_process(far, ELSEWHERE)
    number = claim(far).number
    assert here.claim() == NoTrial(over=False)
    now[0] += queue_module.STALE_S - 1
    far.beat({number: 20.0})
    assert here.claim() == NoTrial(over=False)
    now[0] += queue_module.STALE_S + 1
    again = claim(here)
    # What is known of the time of the attempt before goes on.
    assert (again.previous, again.seconds) == (ELSEWHERE, 20.0)


def test_a_trial_that_lost_its_worker_while_it_was_sampled_is_completed(studies: Studies) -> None:
    queue = studies.queue()
    trial = queue.study.ask()
    trial.suggest_categorical("encoder.embedding_size", [2, 4, 8])
    chosen = trial.params["encoder.embedding_size"]
    found = claim(queue)
    assert found.number == trial.number
    assert found.spec.plain()["encoder"]["embedding_size"] == chosen


def test_a_duplicate_is_answered_from_the_storage(studies: Studies) -> None:
    queue = studies.queue(ONE_POINT)
    for value in (0.6, 0.7):
        queue.finish(claim(queue).number, complete(value))
    assert queue.claim() == NoTrial(over=True)
    trials = queue.trials()
    assert len(trials) == 6
    for trial in trials:
        twin = trial.user_attrs.get(records.DUPLICATE_OF)
        assert (twin is None) == (records.attempts_of(trial) == 1)
        if twin is not None:
            assert trial.values == trials[twin].values
            assert trial.params == trials[twin].params
            assert trial.user_attrs[records.SPEC_HASH] == trials[twin].user_attrs[records.SPEC_HASH]
            assert records.DUPLICATE_OF not in trials[twin].user_attrs


def test_a_duplicate_of_a_running_trial_waits_for_it(studies: Studies) -> None:
    queue = studies.queue(ONE_POINT)
    first = [claim(queue), claim(queue)]
    assert queue.claim() == NoTrial(over=False)
    assert len(queue.trials()) == 6
    queue.finish(first[0].number, complete(0.6))
    queue.finish(first[1].number, Outcome("failed", cause="boom", traceback="Traceback"))
    # The twins of the complete trial are answered; one twin of the failed one runs in its place, if there is any.
    last = queue.claim()
    if isinstance(last, ClaimedTrial):
        assert last.spec.spec_hash == first[1].spec.spec_hash
        queue.finish(last.number, complete(0.8))
        last = queue.claim()
    assert last == NoTrial(over=True)
    assert states(queue).count("FAIL") == 1
    assert states(queue).count("COMPLETE") == 5


def test_a_grid_is_worked_through_once(studies: Studies) -> None:
    text = ONE_POINT.replace("random, seed: 1", "grid").replace("  trials: 6\n", "")
    first, second = studies.queue(text), studies.queue(text)
    sizes = [claim(each).spec.plain()["encoder"]["embedding_size"] for each in (first, second)]
    assert sizes == [2, 4]
    assert first.total == 2
    assert first.claim() == NoTrial(over=False)


def test_a_point_that_does_not_validate_is_a_failed_trial(studies: Studies) -> None:
    (studies.folder / "base.yaml").write_text(
        "name: base\ndataset: {name: movielens-small, path: data}\nencoder: {name: sasrec}\n", encoding="utf-8"
    )
    text = (
        ONE_POINT.replace(
            "encoder.embedding_size: {choices: [2, 4]}",
            "encoder.embedding_size: {choices: [5, 6]}\n    encoder.n_heads: {choices: [1, 3]}",
        )
        .replace("random, seed: 1", "grid")
        .replace("  trials: 6\n", "")
    )
    queue = studies.queue(text)
    while isinstance(found := queue.claim(), ClaimedTrial):
        queue.finish(found.number, complete())
    assert states(queue) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert "does not validate" in queue.trials()[1].user_attrs[records.CAUSE]
    assert "n_heads must divide" in queue.trials()[1].user_attrs[records.CAUSE]


def test_reports_are_numbered_by_validation_and_survive_a_resume(studies: Studies) -> None:
    dead, other = studies.queue(), studies.queue()
    as_process(dead, DEAD)
    number = claim(dead).number
    for step, value in ((10, 0.5), (20, 0.6), (30, 0.65)):
        dead.report(number, step, value)
    claim(other)
    for step, value in ((20, 0.6), (30, 0.65), (40, 0.7)):
        other.report(number, step, value)
    assert other.trials()[number].intermediate_values == {1: 0.5, 2: 0.6, 3: 0.65, 4: 0.7}


def test_the_best_value_of_an_attempt_before_counts(studies: Studies) -> None:
    """An attempt that continues from a checkpoint reports the best value since then."""
    text = STUDY.replace("  trials", "  pruner: {name: median, startup_trials: 1}\n  trials")
    dead, other = studies.queue(text), studies.queue(text)
    first = claim(other).number
    for step in (10, 20):
        other.report(first, step, 0.65)
    other.finish(first, complete())
    as_process(dead, DEAD)
    number = claim(dead).number
    dead.report(number, 10, 0.7)
    assert claim(other).number == number
    assert not other.report(number, 20, 0.6)
    assert other.trials()[number].intermediate_values == {1: 0.7, 2: 0.7}


def test_several_objectives_are_not_reported(studies: Studies) -> None:
    queue = studies.queue(STUDY.replace("valid.auc", "[valid.auc, valid.uauc]"))
    assert not queue.report(claim(queue).number, 1, 0.5)


def test_a_hopeless_trial_is_pruned(studies: Studies) -> None:
    text = STUDY.replace("  trials", "  pruner: {name: median, startup_trials: 2}\n  trials")
    queue = studies.queue(text)
    for _ in range(2):
        number = claim(queue).number
        assert not queue.report(number, 1, 0.7)
        queue.finish(number, complete())
    number = claim(queue).number
    assert queue.report(number, 1, 0.6)
    queue.finish(number, Outcome("pruned", cause="stopped at a validation"))
    assert states(queue) == ["COMPLETE", "COMPLETE", "PRUNED"]


def test_hyperband_stops_what_its_bracket_does_not_keep(studies: Studies) -> None:
    pruner = "{name: hyperband, min_resource: 1, max_resource: 9, reduction_factor: 3}"
    queue = studies.queue(STUDY.replace("  trials: 6", f"  pruner: {pruner}\n  trials: 30"))
    ends = []
    for index in range(30):
        number = claim(queue).number
        stopped = any(queue.report(number, step, 0.9 - index / 100) for step in range(1, 10))
        queue.finish(number, Outcome("pruned", cause="stopped") if stopped else complete(0.5))
        ends.append(stopped)
    assert not ends[0]
    assert any(ends)


def test_curves_stay_small() -> None:
    kept = [index for index in range(1, 5001) if is_kept(index)]
    assert kept[:22] == [*range(1, 21), 25, 30]
    assert len(kept) < 110


def test_a_password_in_a_traceback_is_not_stored(studies: Studies) -> None:
    queue = studies.queue()
    address = dataclasses.replace(queue._storage.address, url="postgresql://me:s3cret@host/db")
    queue._storage.address = address
    number = claim(queue).number
    queue.finish(number, Outcome("failed", cause="no s3cret", traceback="postgresql://me:s3cret@host"))
    assert "s3cret" not in str(queue.trials()[number].user_attrs)


def test_asking_with_many_finished_trials_is_quick(studies: Studies) -> None:
    queue = studies.queue(STUDY.replace("trials: 6", "trials: 400").replace("random", "tpe"))
    space = {each.name: each.distribution() for each in queue._file.space.all()}
    queue.study.add_trials(
        create_trial(
            params={"encoder.embedding_size": 2, "encoder.fit.learning_rate": 1e-4 * (1 + index / 100)},
            distributions=space,
            value=index / 300,
        )
        for index in range(300)
    )
    start = time.monotonic()
    queue.finish(claim(queue).number, complete())
    assert time.monotonic() - start < 1.0
