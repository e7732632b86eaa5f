"""Training by several processes: exact gradients for any shares, one decision to stop, the same bits everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from process_fakes import in_group

from collm.engine.shares import add_up_gradients
from collm.engine.train import LoopSettings, train
from collm.errors import RunError
from collm.process_group import SINGLE, ProcessGroup

SETTINGS = {"max_steps": 12, "validate_every": 3, "patience": 9, "clip_norm": 0.5, "checkpoint_seconds": 0.0, "seed": 1}


class Regression:
    """Logistic regression in float64 with unequal micro-batches, in some steps fewer than processes."""

    title = "regression"

    def __init__(self, *, stop_at: int | None = None, poisoned_row: int | None = None) -> None:
        generator = np.random.default_rng(0)
        self.model = torch.nn.Linear(4, 1).double()
        with torch.no_grad():
            self.model.weight.copy_(torch.from_numpy(generator.normal(size=(1, 4))))
            self.model.bias.zero_()
        self.never_used = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
        self.x = torch.from_numpy(generator.normal(size=(25, 4)))
        self.y = (self.x[:, 0] > 0).double()
        self.stop_at, self.poisoned_row, self.n_losses, self.n_validations = stop_at, poisoned_row, 0, 0

    def optimiser(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW([*self.model.parameters(), self.never_used], lr=0.05, weight_decay=0.1)

    def factor(self, step: int, group: Any) -> float:
        return 1.0

    def batches(self, epoch: int) -> list[list[np.ndarray]]:
        order = np.random.default_rng(epoch).permutation(25)
        cuts = ([4], [1, 6], [5], [])
        return [np.split(part, cut) for part, cut in zip(np.split(order, [8, 16, 24]), cuts, strict=True)]

    def cost(self, rows: np.ndarray) -> float:
        return float(len(rows))

    def loss_sum(self, rows: np.ndarray) -> torch.Tensor:
        self.n_losses += 1
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            self.model(self.x[rows])[:, 0], self.y[rows], reduction="sum"
        )
        return loss * float("nan") if self.poisoned_row in rows else loss

    def validate(self) -> float:
        self.n_validations += 1
        if self.n_validations == self.stop_at:
            raise RunError("stopped on purpose")
        with torch.no_grad():
            return -float((self.model(self.x)[:, 0] - self.y).square().mean())

    def state(self) -> dict[str, torch.Tensor]:
        return dict(self.model.state_dict())

    def load_state(self, state: Any) -> None:
        self.model.load_state_dict(dict(state), strict=True)


def run(
    task: Regression,
    path: Path,
    processes: ProcessGroup = SINGLE,
    observer: Any = lambda step, values: None,
    **changes: Any,
):
    settings = LoopSettings(**{**SETTINGS, **changes})
    state = train(
        task, settings, accelerator=Accelerator(cpu=True), checkpoint=path, observer=observer, processes=processes
    )
    return task, state


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("shards", [False, True])
def test_several_processes_train_the_weights_of_one(tmp_path: Path, size: int, shards: bool) -> None:
    alone, state = run(Regression(), tmp_path / "alone.safetensors")
    members = in_group(
        lambda processes: run(Regression(), tmp_path / "group.safetensors", processes), size, shards=shards
    )
    for task, other in members:
        assert (other.step, other.best_step, other.rows_seen) == (state.step, state.best_step, state.rows_seen)
        # Gradients cross the wires in float32.
        torch.testing.assert_close(task.model.weight, alone.model.weight, rtol=0, atol=1e-6)
        assert torch.equal(task.model.weight, members[0][0].model.weight)
        assert torch.equal(task.never_used, torch.ones(3, dtype=torch.float64))
    if shards:
        assert len({task.n_losses for task, _ in members}) == 1
    else:
        assert sum(task.n_losses for task, _ in members) == alone.n_losses


def test_observers_hear_it_once_and_all_stop_by_one_decision(tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []

    def work(processes: ProcessGroup) -> Any:
        task = Regression()
        # Only the main process sees a plateau; the others would have gone on.
        task.validate = lambda: 1.0 if processes.is_main else float(np.random.default_rng().random())  # type: ignore[method-assign]
        return run(
            task, tmp_path / "c", processes, lambda step, values: heard.append((processes.index, step)), patience=2
        )

    assert [(state.step, state.best_step) for _, state in in_group(work, 2)] == [(9, 3), (9, 3)]
    assert heard == [(0, 3), (0, 6), (0, 9)]


def test_a_resumed_team_ends_with_the_same_bits_and_another_size_may_resume(tmp_path: Path) -> None:
    whole = in_group(lambda processes: run(Regression(), tmp_path / "whole", processes), 2)[0][0]
    stopped = in_group(lambda processes: run(Regression(stop_at=3), tmp_path / "part", processes), 2)
    assert [str(each) for each in stopped] == ["stopped on purpose"] * 2
    content = (tmp_path / "part").read_bytes()
    for task, state in in_group(lambda processes: run(Regression(), tmp_path / "part", processes), 2):
        assert state.step == 12
        assert torch.equal(task.model.weight, whole.model.weight)
    (tmp_path / "part").write_bytes(content)
    alone, _ = run(Regression(), tmp_path / "part")
    torch.testing.assert_close(alone.model.weight, whole.model.weight, rtol=0, atol=1e-6)


def test_a_bad_loss_in_one_process_is_an_error_of_all(tmp_path: Path) -> None:
    raised = in_group(lambda processes: run(Regression(poisoned_row=5), tmp_path / "c", processes), 2)
    assert all(isinstance(each, RunError) and "regression: loss is nan at step" in str(each) for each in raised)
    assert str(raised[0]) == str(raised[1])


def test_gradients_and_numbers_are_added_up_and_what_nobody_has_stays_none() -> None:
    def work(processes: ProcessGroup) -> Any:
        both, one, none = (torch.nn.Parameter(torch.zeros(2, 2)) for _ in range(3))
        both.grad = torch.full((2, 2), float(processes.index + 1))
        one.grad = torch.ones(2, 2) if processes.index == 1 else None
        sums = add_up_gradients([both, one, none], (0.5, float(processes.is_main)), processes=processes)
        return both.grad, one.grad, none.grad, sums

    for both, one, none, sums in in_group(work, 3):
        assert torch.equal(both, torch.full((2, 2), 6.0))
        assert torch.equal(one, torch.ones(2, 2))
        assert none is None
        assert sums == [1.5, 1.0]
