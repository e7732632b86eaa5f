"""Pruning acts at a validation inside tuning: the step is left unfinished, everything before it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from generated import write_data

from collm.registry import default_registry
from collm.runs.store import DONE, STAGES
from collm.study.check import check_study
from collm.study.records import ClaimedTrial
from collm.study.study_file import read_study
from collm.study.trial_run import REPORT, Job, TrialPruned, run_trial

STUDY = """\
name: pruned
base:
  name: pruned
  dataset: {name: movielens-small, path: data, limit: {valid: 30, test: 30}}
  encoder: {name: mf-bias, embedding_size: 4, fit: {epochs: 2, batch_size: 64}}
  backbone: {name: tiny, dtype: float32}
  prompt: {name: movie}
  tuning:
    name: default
    batch_size: 4
    max_rows: 16
    text: {epochs: 1, warmup_steps: 1}
    collaborative: {epochs: 3, warmup_steps: 1}
study:
  objective: valid.auc
  trials: 2
  search:
    tuning.collaborative.learning_rate: [1.0e-3, 1.0e-2]
"""


class StoppingWorker:
    """The way to a worker that stops the trial at its n-th report."""

    def __init__(self, stop_at: int) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.stop_at = stop_at

    def send(self, message: tuple[Any, ...]) -> None:
        self.sent.append(message)

    def recv(self) -> bool:
        return len(self.sent) == self.stop_at


def test_a_trial_is_stopped_inside_its_last_tuning_step(tmp_path: Path) -> None:
    registry = default_registry()
    write_data(tmp_path / "data")
    path = tmp_path / "study.yaml"
    path.write_text(STUDY, encoding="utf-8")
    checked = check_study(read_study(path, [], registry, cwd=tmp_path, runs_dir=tmp_path), registry)
    job = Job(
        ClaimedTrial(0, checked.trial(checked.file.space.first()), attempt=1, previous=None),
        runs_dir=tmp_path / "runs",
        cache_dir=tmp_path / "cache",
        device="cpu",
        threads=1,
        log=tmp_path / "log",
    )
    worker = StoppingWorker(stop_at=2)
    with pytest.raises(TrialPruned):
        run_trial(job, worker)  # type: ignore[arg-type]
    kinds, steps, values = zip(*worker.sent, strict=True)
    assert set(kinds) == {REPORT}
    # Three epochs of one optimiser step (four batches of gradients): two were validated, the third never ran.
    assert steps == (1, 2)
    assert 0 <= values[0] <= values[1] <= 1
    finished = {folder.parent.name.partition("-")[0] for folder in (tmp_path / "runs" / STAGES).glob(f"*/{DONE}")}
    assert {"fit_encoder", "tune_1"} <= finished
    assert "tune_2" not in finished
