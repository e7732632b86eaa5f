from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from optuna import create_trial
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState
from rich.console import Console
from rich.table import Table
from study_fakes import STUDY, Studies

from collm.errors import RunError, UsageError
from collm.study import records
from collm.study.page import study_page
from collm.study.progress import StudyProgress, best_trials
from collm.study.show import _headings, best_so_far, best_spec, parameter_names, study_data, study_tables
from collm.study.study_file import Objective
from collm.study.trial_queue import TrialQueue

BOTH = STUDY.replace("valid.auc", "[valid.auc, cost.seconds_per_sample]")
RATE = "encoder.fit.learning_rate"
VALUES: list[tuple[float, ...]] = [(0.5,), (0.7,), (0.6,), (0.65,), (0.7,)]


@pytest.fixture
def queue(studies: Studies) -> TrialQueue:
    return filled(studies, STUDY, VALUES)


def filled(studies: Studies, text: str, values: list[tuple[float, ...]]) -> TrialQueue:
    queue = studies.queue(text)
    space = {each.name: each.distribution() for each in queue._file.space.all()}
    sizes = (2, 4, 8)
    for index, each in enumerate(values):
        params = {"encoder.embedding_size": sizes[index % 3], RATE: 1e-4 * (index + 1)}
        attributes = {records.SECONDS: 1.5}
        queue.study.add_trial(
            create_trial(params=params, distributions=space, values=list(each), user_attrs=attributes)
        )
    return queue


def failed(queue: TrialQueue) -> None:
    facts = {records.CAUSE: "MemoryError: no memory", records.TRACEBACK: "Traceback: <deep> in fit", "attempts": 2}
    queue.study.add_trial(create_trial(state=TrialState.FAIL, user_attrs=facts))


def shown(queue: TrialQueue) -> str:
    console = Console(file=io.StringIO(), width=160)
    for each in study_tables(queue):
        console.print(each)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_the_table_names_the_best_and_the_cause_of_failures(queue: TrialQueue) -> None:
    failed(queue)
    text = shown(queue)
    assert "search: 5 complete, 1 failed" in text
    assert "1*" in text
    assert "MemoryError: no memory; begun 2 times" in text
    assert "Traceback: <deep> in fit" in text
    assert "importances for valid.auc (fANOVA)" in text
    assert "best valid.auc so far: ▁████  0.5000 to 0.7000" in text


def test_headings_are_the_shortest_that_tell_parameters_apart() -> None:
    trial = create_trial(
        value=0.5,
        params={
            "encoder.name": "din",
            "encoder.fit.learning_rate": 0.1,
            "tuning.text.learning_rate": 0.1,
            "dropout": 0.1,
            "encoder.dropout@din": 0.2,
        },
        distributions={
            "encoder.name": CategoricalDistribution(["din"]),
            "encoder.fit.learning_rate": FloatDistribution(0, 1),
            "tuning.text.learning_rate": FloatDistribution(0, 1),
            "dropout": FloatDistribution(0, 1),
            "encoder.dropout@din": FloatDistribution(0, 1),
        },
    )
    names = parameter_names([trial])
    assert names == list(trial.params)
    assert [heading.replace("\n", "") for heading in _headings(names)] == [
        "encoder.name",
        "fit.learning_rate",
        "text.learning_rate",
        "dropout",
        "dropout@din",
    ]


def test_a_repeated_trial_says_which_it_repeats(queue: TrialQueue) -> None:
    queue.study.add_trial(create_trial(value=0.7, user_attrs={records.DUPLICATE_OF: 1, records.SECONDS: 0.0}))
    assert "repeats trial 1" in shown(queue)
    assert "repeats trial 1" in study_page(queue)


def test_the_data_can_be_read_by_scripts(queue: TrialQueue) -> None:
    failed(queue)
    data = json.loads(json.dumps(study_data(queue), allow_nan=False))
    assert data["best"] == 1
    assert data["counts"]["complete"] == 5
    assert data["trials"][5]["traceback"] == "Traceback: <deep> in fit"
    assert set(data["importances"]["valid.auc"]) == {"encoder.embedding_size", RATE}


def test_the_pareto_front_is_what_nothing_beats(studies: Studies) -> None:
    both = filled(studies, BOTH, [(0.7, 3.0), (0.6, 1.0), (0.6, 2.0), (0.8, 5.0), (0.7, 3.0)])
    front = best_trials(both.study, both.trials())
    # Computed by hand; the fifth repeats the first.
    assert [trial.number for trial in front] == [3, 0, 1]
    assert [trial.values for trial in front] == [trial.values for trial in reversed(sorted_front(both))]
    assert "Pareto front" in shown(both)
    assert "<h2>Pareto front</h2>" in study_page(both)


def sorted_front(queue: TrialQueue) -> list[object]:
    unique = {tuple(trial.values): trial for trial in queue.study.best_trials}
    return [unique[key] for key in sorted(unique)]


def test_the_history_follows_the_direction(queue: TrialQueue) -> None:
    better = Objective("valid.auc", "all", "auc", "maximize")
    worse = Objective("valid.logloss", "all", "logloss", "minimize")
    assert best_so_far(queue.trials(), better) == [0.5, 0.7, 0.7, 0.7, 0.7]
    assert best_so_far(queue.trials(), worse) == [0.5] * 5


def test_the_page_stands_alone(queue: TrialQueue) -> None:
    failed(queue)
    page = study_page(queue)
    assert page.startswith("<!doctype html>")
    for words in ("Optimisation history", "Importances", "Slices", "<svg", "MemoryError: no memory"):
        assert words in page
    assert "<script" not in page
    assert 'name="viewport"' in page
    # Labels of a logarithmic axis are numbers, not the source of a formula.
    assert "mathdefault" not in page
    assert 'src="http' not in page


def test_the_best_spec_is_complete(queue: TrialQueue, studies: Studies, tmp_path: Path) -> None:
    text, about = best_spec(queue, None)
    assert about == "trial 1 of study search, valid.auc 0.7000"
    assert "embedding_size: 4" in text
    assert "test" in text
    other, _ = best_spec(queue, 2)
    assert "embedding_size: 8" in other
    with pytest.raises(UsageError, match="there is no trial 9: the study has 5"):
        best_spec(queue, 9)


def test_there_may_be_no_best(studies: Studies) -> None:
    empty = studies.queue()
    with pytest.raises(RunError, match="no trial is complete yet"):
        best_spec(empty, None)


def test_several_best_trials_must_be_chosen_from(studies: Studies) -> None:
    both = filled(studies, BOTH, [(0.7, 3.0), (0.6, 1.0)])
    with pytest.raises(UsageError, match=r"trials 0, 1 are Pareto-optimal: choose one with --trial N"):
        best_spec(both, None)
    _, about = best_spec(both, 0)
    assert about == "trial 0 of study search, valid.auc 0.7000, cost.seconds_per_sample 3.0000"


@pytest.mark.parametrize(("state", "word"), [(TrialState.FAIL, "failed"), (TrialState.PRUNED, "pruned")])
def test_a_trial_without_a_value_has_its_state_in_the_spec(queue: TrialQueue, state: TrialState, word: str) -> None:
    like = queue.trials()[0]
    queue.study.add_trial(
        create_trial(state=state, params=like.params, distributions=like.distributions, intermediate_values={1: 0.4})
    )
    _, about = best_spec(queue, 5)
    assert about == f"trial 5 of study search, {word}"


def test_live_progress_shows_best_running_pruned_and_time_left(studies: Studies) -> None:
    queue = filled(studies, STUDY.replace("trials: 6", "trials: 9"), VALUES)
    queue.study.add_trial(create_trial(state=TrialState.PRUNED, intermediate_values={1: 0.4}))
    running = queue.study.ask()
    running.suggest_categorical("encoder.embedding_size", [2, 4, 8])
    running.report(0.55, 1)
    table = StudyProgress(queue, workers=1)._table(queue.trials())
    assert isinstance(table, Table)
    console = Console(file=io.StringIO(), width=160)
    console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "6/9, 5 complete, 1 pruned, 1 running, best 0.7000 (trial 1), about 4 s left" in text
    assert "running (validation AUC 0.5500)" in text


def test_progress_off_a_terminal_is_a_line_per_trial(studies: Studies, capsys: pytest.CaptureFixture[str]) -> None:
    queue = filled(studies, STUDY, VALUES[:4])
    progress = StudyProgress(queue, workers=1)
    progress.start()
    like = queue.trials()[0]
    queue.study.add_trial(
        create_trial(value=0.7, params=like.params, distributions=like.distributions, user_attrs=like.user_attrs)
    )
    with progress:
        progress.show()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "search: 4 of 6 trials were finished before"
    assert lines[1] == "search: trial 4 0.7000, 1.5 s; 5/6, 5 complete, best 0.7000 (trial 1), about 2 s left"
