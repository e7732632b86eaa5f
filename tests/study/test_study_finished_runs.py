"""Finished runs as trials: taken in where their settings and files are a point of the study, named where not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from study_fakes import BASE, STUDY, Studies

from collm.component import BuildContext
from collm.errors import SpecError
from collm.finished import input_hashes
from collm.runs.store import RunFolder
from collm.spec.expand import load_any
from collm.spec.model import ResolvedSpec
from collm.study import records
from collm.study.finished_runs import TakenIn, take_in
from collm.study.records import ClaimedTrial, Outcome
from collm.study.show import trial_note

RATE = "encoder.fit.learning_rate=0.002"
TEXT = STUDY.replace("  search:", "  from_runs: [old]\n  search:")


def finished_run(
    studies: Studies, name: str, *overrides: str, auc: float | None = 0.7, base: str = BASE, done: bool = True
) -> Path:
    """Writes the folder of a finished run of the base with overrides."""
    path = studies.folder / "run.yaml"
    path.write_text(base, encoding="utf-8")
    spec = load_any(path, list(overrides), studies.registry, cwd=studies.folder)
    assert isinstance(spec, ResolvedSpec)
    context = BuildContext(cache_dir=studies.folder, find=studies.registry.get)
    folder = RunFolder.at(studies.folder / "old" / name)
    folder.path.mkdir(parents=True)
    folder.write_spec(spec.plain())
    record = {"value": auc, "n": 10, "skipped": {}, "reason": "one class only" if auc is None else None}
    head = {"schema": 1, "name": spec.name, "run": spec.name, "spec_hash": spec.spec_hash, "seed": 0}
    content: dict[str, Any] = {**head, "profile": "recommended", "metrics": {"valid": {"all": {"auc": record}}}}
    stage = {"seconds": 3.0, "reused": False, "work_seconds": 3.0, "kind": "fit_encoder"}
    content |= {"timing": {"fit_encoder": stage}, "counts": {"valid": 10}}
    content["inputs"] = input_hashes(spec, studies.registry, context)
    (folder.path / "results.json").write_text(json.dumps(content), encoding="utf-8")
    if done:
        (folder.path / "done").write_text("", encoding="utf-8")
    return folder.path


def taken(studies: Studies, text: str = TEXT) -> TakenIn:
    queue = studies.queue(text)
    return take_in(queue.checked, queue._storage, queue.study)


def test_runs_that_are_points_become_trials(studies: Studies) -> None:
    first = finished_run(studies, "a", "encoder.embedding_size=8", "encoder.fit.learning_rate=0.002", auc=0.8)
    second = finished_run(studies, "b", "encoder.fit.learning_rate=0.003", "evaluate.resamples=10", "name=other")
    assert taken(studies) == TakenIn((first, second), (), {})
    queue = studies.queue(TEXT)
    assert [trial.values for trial in queue.trials()] == [[0.8], [0.7]]
    assert queue.trials()[0].params == {"encoder.embedding_size": 8, "encoder.fit.learning_rate": 0.002}
    assert queue.trials()[1].params["encoder.embedding_size"] == 4
    assert records.attempts_of(queue.trials()[0]) == 0
    assert trial_note(queue.trials()[0]) == f"finished run {first}"
    # Taken in once, also by another command.
    assert taken(studies) == TakenIn((), (first, second), {})
    assert taken(studies).lines() == []


def test_runs_that_also_ranked_become_trials(studies: Studies) -> None:
    ranked = finished_run(studies, "a", RATE, "evaluate.ranking={metrics: [mrr]}", auc=0.8)
    assert taken(studies) == TakenIn((ranked,), (), {})


def test_they_do_not_use_up_the_trials_and_answer_repeats(studies: Studies) -> None:
    finished_run(studies, "a", "encoder.embedding_size=8", "encoder.fit.learning_rate=0.002")
    known = "  enqueue: [{encoder.embedding_size: 8, encoder.fit.learning_rate: 0.002}]\n  search:"
    text = TEXT.replace("  search:", known).replace("trials: 6", "trials: 2")
    taken(studies, text)
    queue = studies.queue(text)
    begun = 0
    while isinstance(found := queue.claim(), ClaimedTrial):
        queue.finish(found.number, Outcome("complete", values=(0.5,)))
        begun += 1
    # The enqueued point is known by then.
    assert (begun, len(queue.trials()), queue.total) == (2, 3, 3)


def test_a_grid_leaves_out_what_was_taken_in(studies: Studies) -> None:
    finished_run(studies, "a", "encoder.embedding_size=2", "encoder.fit.learning_rate=0.01")
    text = TEXT.replace("random, seed: 1", "grid").replace("  trials: 6\n", "")
    text = text.replace("{low: 1.0e-4, high: 1.0e-2, log: true}", "[0.001, 0.01]")
    taken(studies, text)
    queue = studies.queue(text)
    points = []
    while isinstance(found := queue.claim(), ClaimedTrial):
        points.append(queue.trials()[found.number].params)
        queue.finish(found.number, Outcome("complete", values=(0.5,)))
    assert len(points) == 5
    assert {"encoder.embedding_size": 2, "encoder.fit.learning_rate": 0.01} not in points


@pytest.mark.parametrize(
    ("overrides", "options", "reason"),
    [
        ((RATE, "encoder.embedding_size=16"), {}, "encoder.embedding_size is 16, which the search does not have"),
        (("encoder.fit.learning_rate=0.5",), {}, "it lies outside of the search space: encoder.embedding_size 4, "),
        ((RATE, "encoder.fit.epochs=4", "seed=1"), {}, "it differs from the base: seed: 1 there, 0 here; encoder.fit"),
        ((RATE,), {"auc": None}, "valid.auc has no value: one class only"),
        ((RATE,), {"done": False}, "it is not finished"),
        (
            (RATE,),
            {"base": BASE.replace("mf-bias", "lightgcn")},
            "it differs from the base: encoder.name: lightgcn there, mf-bias here",
        ),
    ],
)
def test_other_runs_are_named_with_the_reason(
    studies: Studies, overrides: tuple[str, ...], options: dict[str, Any], reason: str
) -> None:
    folder = finished_run(studies, "a", *overrides, **options)
    found = taken(studies)
    assert (found.taken, found.known) == ((), ())
    assert found.refused[folder].startswith(reason)
    assert found.lines()[0] == "0 finished runs taken in as trials"
    assert found.lines()[1].startswith(f"not taken in: a: {reason}")
    assert studies.queue(TEXT).trials() == []


def test_another_split_measured_is_no_trial(studies: Studies) -> None:
    folder = finished_run(studies, "a", RATE)
    content = json.loads((folder / "results.json").read_text())
    content["metrics"] = {"test": content["metrics"]["valid"]}
    (folder / "results.json").write_text(json.dumps(content))
    assert taken(studies).refused[folder] == "it did not measure valid.auc ('valid' is missing)"


def test_other_data_or_code_is_no_trial(studies: Studies) -> None:
    folder = finished_run(studies, "a", RATE)
    content = json.loads((folder / "results.json").read_text())
    content["inputs"]["code"] = "another"
    (folder / "results.json").write_text(json.dumps(content))
    (studies.folder / "data" / "ratings.csv").write_text("other rows\n", encoding="utf-8")
    assert taken(studies).refused[folder] == "it was made with other contents of code, dataset"


def test_a_spec_that_does_not_validate_any_more_is_named(studies: Studies) -> None:
    folder = finished_run(studies, "a", RATE)
    plain = yaml.safe_load((folder / "spec.yaml").read_text())
    (folder / "spec.yaml").write_text(yaml.safe_dump({**plain, "encoder": {"name": "gone"}}))
    assert taken(studies).refused[folder].startswith("its spec does not validate here: unknown encoder 'gone'")


def test_a_place_without_runs_is_located(studies: Studies) -> None:
    (studies.folder / "old").mkdir()
    text = TEXT.replace("[old]", "[old, nowhere]")
    with pytest.raises(SpecError) as caught:
        taken(studies, text)
    empty, missing = (str(problem).replace(str(studies.folder) + "/", "") for problem in caught.value.problems)
    assert empty.startswith("study.yaml:8:")
    assert "study.from_runs[0]: 'old': holds no run folder" in empty
    assert "study.from_runs[1]: 'nowhere': no such folder" in missing


def test_a_searched_file_is_found_by_its_place(studies: Studies) -> None:
    other = studies.folder / "other"
    other.mkdir()
    for each in (studies.folder / "data").iterdir():
        (other / each.name).write_text(each.read_text() + "more\n")
    folder = finished_run(studies, "a", f"dataset.path={other}", RATE)
    text = TEXT.replace("  search:\n", "  search:\n    dataset.path: [data, other]\n")
    assert taken(studies, text).taken == (folder,)
    (trial,) = studies.queue(text).trials()
    assert trial.params["dataset.path"] == "other"
