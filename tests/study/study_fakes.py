"""Studies on files and registries of the tests; nothing is fitted here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from collm.errors import Problem, SpecError
from collm.registry import Registry
from collm.runs.records import RunOutcome, RunResults
from collm.study.check import CheckedStudy, check_study
from collm.study.definition import open_study
from collm.study.storage import StudyStorage
from collm.study.study_file import StudyFile, read_study
from collm.study.trial_queue import TrialQueue

BASE = """\
name: base
dataset: {name: movielens-small, path: data}
encoder: {name: mf-bias, embedding_size: 4, fit: {epochs: 3}}
"""
STUDY = """\
name: search
base: base.yaml
study:
  objective: valid.auc
  trials: 6
  sampler: {name: random, seed: 1}
  storage: journal:studies.log
  search:
    encoder.embedding_size: {choices: [2, 4, 8]}
    encoder.fit.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}
"""


class Studies:
    """Reads study files written into a folder."""

    def __init__(self, folder: Path, registry: Registry) -> None:
        self.folder, self.registry = folder, registry
        (folder / "base.yaml").write_text(BASE, encoding="utf-8")
        (folder / "data").mkdir(exist_ok=True)
        for name in ("ratings.csv", "movies.csv"):
            (folder / "data" / name).write_text(f"{name}: never read, but hashed\n", encoding="utf-8")

    def read(self, text: str = STUDY, *overrides: str) -> StudyFile:
        path = self.folder / "study.yaml"
        path.write_text(text, encoding="utf-8")
        return read_study(path, overrides, self.registry, cwd=self.folder, runs_dir=self.folder / "runs")

    def check(self, text: str = STUDY, *overrides: str) -> CheckedStudy:
        return check_study(self.read(text, *overrides), self.registry)

    def queue(self, text: str = STUDY) -> TrialQueue:
        checked = self.check(text)
        storage = StudyStorage(checked.file.storage)
        return TrialQueue(checked, storage, open_study(checked, storage))

    def problems(self, text: str, *overrides: str) -> Sequence[Problem]:
        with pytest.raises(SpecError, match=r".") as caught:
            self.check(text, *overrides)
        return caught.value.problems

    def only_problem(self, text: str, *overrides: str) -> str:
        (problem,) = self.problems(text, *overrides)
        return str(problem).replace(str(self.folder) + "/", "")


def outcome(auc: float | None) -> RunOutcome:
    """A finished run as a study sees it."""
    record = {"value": auc, "n": 10, "skipped": {}, "reason": "one class only" if auc is None else None}
    timing = {
        "fit_encoder": {"seconds": 2.0, "reused": False, "work_seconds": 2.0},
        "tune_1": {"seconds": 0.0, "reused": True, "work_seconds": 5.0},
        "evaluate": {"seconds": 1.0, "reused": False, "work_seconds": 1.0},
    }
    metrics = {"valid": {"all": {"auc": record, "logloss": record}, "warm": {"auc": record}}}
    head = {"schema": 1, "name": "x", "run": "x", "spec_hash": "0", "seed": 0, "profile": "recommended"}
    content = {**head, "metrics": metrics, "timing": timing, "counts": {"valid": 50}}
    return RunOutcome(RunResults.check(content, place="results.json"), Path("runs/x"), reused=False)
