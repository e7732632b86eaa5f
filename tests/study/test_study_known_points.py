"""Points that a study file puts first: read against the space, tried first and once."""

from __future__ import annotations

from typing import Any

import pytest
from study_fakes import STUDY, Studies

from collm.study import records
from collm.study.records import ClaimedTrial, Outcome
from collm.study.trial_queue import TrialQueue

GROUPS = """\
name: groups
base: base.yaml
study:
  objective: valid.auc
  trials: 9
  sampler: {name: random, seed: 1}
  storage: journal:studies.log
  enqueue: [ENQUEUE]
  search:
    encoder.name:
      choices:
        mf-bias: {}
        din:
          encoder.dropout: {low: 0.0, high: 0.8, step: 0.2}
          encoder.layers: {choices: [[200, 80], [64]]}
    encoder.embedding_size: {low: 2, high: 8}
"""
BOTH = "[{encoder.embedding_size: 8, encoder.fit.learning_rate: 0.002}, {encoder.embedding_size: 2}]"


def with_points(points: str, text: str = STUDY) -> str:
    return text.replace("  search:", f"  enqueue: {points}\n  search:")


def work_off(queue: TrialQueue, n_trials: int = 99) -> list[dict[str, Any]]:
    found = []
    while len(found) < n_trials and isinstance(claimed := queue.claim(), ClaimedTrial):
        found.append(dict(queue.trials()[claimed.number].params))
        queue.finish(claimed.number, Outcome("complete", values=(0.5,)))
    return found


def test_known_points_come_first_and_the_sampler_fills_the_rest(studies: Studies) -> None:
    points = work_off(studies.queue(with_points(BOTH)))
    assert len(points) == 6
    assert points[0] == {"encoder.embedding_size": 8, "encoder.fit.learning_rate": 0.002}
    assert points[1]["encoder.embedding_size"] == 2
    assert 1e-4 <= points[1]["encoder.fit.learning_rate"] <= 1e-2
    assert [records.ENQUEUED in trial.user_attrs for trial in studies.queue(with_points(BOTH)).trials()] == [
        *[True] * 2,
        *[False] * 4,
    ]


def test_each_is_tried_once_over_all_commands(studies: Studies) -> None:
    first, second = studies.queue(with_points(BOTH)), studies.queue(with_points(BOTH))
    claimed = [each.claim() for each in (first, second, first)]
    sizes = [each.spec.plain()["encoder"]["embedding_size"] for each in claimed if isinstance(each, ClaimedTrial)]
    assert sizes[:2] == [8, 2]
    assert sum(records.ENQUEUED in trial.user_attrs for trial in first.trials()) == 2


def test_a_point_that_is_added_later_is_the_next(studies: Studies) -> None:
    work_off(studies.queue(), 2)
    known = "[{encoder.embedding_size: 4, encoder.fit.learning_rate: 5.0e-3}]"
    assert work_off(studies.queue(with_points(known)), 1) == [
        {"encoder.embedding_size": 4, "encoder.fit.learning_rate": 5e-3}
    ]
    # One that was tried is not tried again.
    tried = studies.queue().trials()[0].params
    again = f"[{{encoder.embedding_size: {tried['encoder.embedding_size']}, encoder.fit.learning_rate: "
    queue = studies.queue(with_points(f"{again}{tried['encoder.fit.learning_rate']!r}}}]"))
    assert work_off(queue, 1) != [tried]
    assert not any(records.DUPLICATE_OF in trial.user_attrs for trial in queue.trials())


def test_a_point_that_no_trial_is_left_for_is_said(studies: Studies) -> None:
    work_off(studies.queue())
    tried = studies.queue().trials()[0].params
    known = f"[{{encoder.embedding_size: {tried['encoder.embedding_size']}, encoder.fit.learning_rate: "
    known += f"{tried['encoder.fit.learning_rate']!r}}}, {{encoder.embedding_size: 4}}]"
    queue = studies.queue(with_points(known))
    assert work_off(queue) == []
    assert queue.untried_note() == (
        "1 of 2 points of study.enqueue are not tried, since all 6 trials are begun: study.enqueue[1]; "
        "to try them, raise study.trials by 1"
    )
    raised = studies.queue(with_points(known).replace("trials: 6", "trials: 7"))
    assert raised.untried_note() == ""
    assert work_off(raised)[0]["encoder.embedding_size"] == 4
    assert raised.untried_note() == ""


def test_a_grid_begins_with_its_known_points(studies: Studies) -> None:
    text = STUDY.replace("random, seed: 1", "grid").replace("  trials: 6\n", "")
    text = text.replace("{low: 1.0e-4, high: 1.0e-2, log: true}", "[0.001, 0.01]")
    known = "[{encoder.embedding_size: 8, encoder.fit.learning_rate: 0.01}]"
    points = work_off(studies.queue(with_points(known, text)))
    assert points[0] == {"encoder.embedding_size": 8, "encoder.fit.learning_rate": 0.01}
    assert len(points) == len({str(point) for point in points}) == 6
    partial = with_points("[{encoder.embedding_size: 8}]", text).replace("name: search", "name: other")
    message = studies.only_problem(partial)
    assert "study.enqueue[0]: a grid needs whole points; it lacks encoder.fit.learning_rate" in message


def test_groups_are_followed(studies: Studies) -> None:
    known = "{encoder.name: din, encoder.dropout: 0.4, encoder.layers: [64], encoder.embedding_size: 4}"
    (point,) = work_off(studies.queue(GROUPS.replace("ENQUEUE", known)), 1)
    assert point["encoder.layers@din"] == "[64]"
    assert (point["encoder.name"], point["encoder.embedding_size"]) == ("din", 4)
    assert point["encoder.dropout@din"] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{encoder.embeding_size: 4}", "unknown searched path 'encoder.embeding_size'; did you mean"),
        (
            "{encoder.embedding_size: 9}",
            "study.enqueue[0].encoder.embedding_size: got the number 9, must be from 2 to 8",
        ),
        ("{encoder.embedding_size: 2.5}", "must be a whole number"),
        ("{encoder.embedding_size: true}", "must be a number"),
        ("{encoder.name: dinn}", "must be one of: mf-bias, din; did you mean 'din'"),
        ("{encoder.name: din, encoder.dropout: 0.3}", "must be 0.0 plus whole steps of 0.2"),
        ("{encoder.name: din, encoder.layers: [65]}", "must be one of: [200, 80], [64]"),
        ("{encoder.dropout: 0.2}", "exists only where 'encoder.name' is din"),
        ("{encoder.name: mf-bias, encoder.dropout: 0.2}", "exists only where 'encoder.name' is din"),
        ("{}", "study.enqueue[0]: holds no value"),
        ("{encoder.name: din}, {encoder.name: din}", "study.enqueue[1]: is the point of line 8 again"),
    ],
)
def test_mistakes_are_located(studies: Studies, entry: str, message: str) -> None:
    text = studies.only_problem(GROUPS.replace("ENQUEUE", entry))
    assert text.startswith("study.yaml:8:")
    assert message in text


def test_a_number_as_text_is_named_as_such(studies: Studies) -> None:
    message = studies.only_problem(with_points('[{encoder.embedding_size: "8"}]'))
    assert "got '8', must be a number, not text" in message


def test_a_point_that_cannot_validate_is_located(studies: Studies) -> None:
    (studies.folder / "base.yaml").write_text(
        "name: base\ndataset: {name: movielens-small, path: data}\nencoder: {name: sasrec}\n", encoding="utf-8"
    )
    text = STUDY[: STUDY.index("    encoder.embedding")] + (
        "    encoder.embedding_size: {choices: [5, 6]}\n    encoder.n_heads: {choices: [1, 3]}\n"
    )
    message = studies.only_problem(with_points("[{encoder.embedding_size: 5, encoder.n_heads: 3}]", text))
    assert "study.enqueue[0]: the point does not validate:" in message
    assert "n_heads must divide" in message


def test_more_points_than_trials_are_refused(studies: Studies) -> None:
    message = studies.only_problem(with_points(BOTH).replace("trials: 6", "trials: 1"))
    assert "study.enqueue: holds 2 points, but study.trials is 1" in message


def test_known_points_change_no_other_trial(studies: Studies) -> None:
    plain = work_off(studies.queue())
    other = work_off(studies.queue(with_points(BOTH).replace("name: search", "name: other")))
    assert other[2:] == plain[2:]
