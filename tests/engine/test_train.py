"""The training loop on a small regression: it learns, stops early, resumes to the same bits, and stops at NaN."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from collm.engine.checkpoint import load_tensors
from collm.engine.device import derive_seed, seed_draws, seed_torch
from collm.engine.train import LoopSettings, train
from collm.errors import RunError


class Toy:
    """Logistic regression with dropout, so that the generator state matters."""

    title = "toy"

    def __init__(self, *, poison_step: int | None = None, stop_after: int | None = None) -> None:
        seed_torch(0)
        self.model = torch.nn.Sequential(torch.nn.Dropout(0.3), torch.nn.Linear(4, 1))
        generator = np.random.default_rng(0)
        self.x = torch.tensor(generator.normal(size=(32, 4)), dtype=torch.float32)
        self.y = (self.x[:, :1] > 0).float()
        self.poison_step, self.stop_after, self.calls = poison_step, stop_after, 0

    def optimiser(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.model.parameters(), lr=0.05)

    def factor(self, step, group):
        return 1.0

    def batches(self, epoch):
        order = np.random.default_rng(derive_seed(1, epoch)).permutation(32)
        return [[order[i : i + 4], order[i + 4 : i + 8]] for i in range(0, 32, 8)]

    def loss_sum(self, rows):
        self.calls += 1
        if self.stop_after is not None and self.calls > self.stop_after:
            raise KeyboardInterrupt
        self.model.train()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            self.model(self.x[rows]), self.y[rows], reduction="sum"
        )
        return loss * float("nan") if self.poison_step is not None and self.calls > self.poison_step else loss

    def validate(self):
        self.model.eval()
        with torch.no_grad():
            return -float(torch.nn.functional.binary_cross_entropy_with_logits(self.model(self.x), self.y))

    def state(self):
        return dict(self.model.state_dict())

    def load_state(self, state):
        self.model.load_state_dict(dict(state), strict=True)


def settings(**changes) -> LoopSettings:
    values = {
        "max_steps": 40,
        "validate_every": 5,
        "patience": 100,
        "clip_norm": 1.0,
        "checkpoint_seconds": 0.0,
        "seed": 3,
    }
    return LoopSettings(**{**values, **changes})


def run(task: Toy, path: Path, **changes):
    return train(
        task,
        settings(**changes),
        accelerator=Accelerator(cpu=True),
        checkpoint=path,
        observer=lambda step, values: None,
    )


def test_it_learns_and_keeps_the_best_weights(tmp_path: Path) -> None:
    task = Toy()
    before = task.validate()
    state = run(task, tmp_path / "c.safetensors")
    assert state.best_value == max(entry["valid_auc"] for entry in state.curve)
    assert task.validate() == pytest.approx(state.best_value)
    assert task.validate() > before + 0.2


@pytest.mark.parametrize("stop_after", [1, 7, 13, 42, 79])
def test_interrupted_training_ends_with_the_same_bits(tmp_path: Path, stop_after: int) -> None:
    whole = Toy()
    whole_state = run(whole, tmp_path / "whole.safetensors")
    with pytest.raises(KeyboardInterrupt):
        run(Toy(stop_after=stop_after), tmp_path / "part.safetensors")
    resumed = Toy()
    state = run(resumed, tmp_path / "part.safetensors")
    assert state.step == whole_state.step
    assert state.best_value == whole_state.best_value
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, resumed.state()[name])


def test_patience_stops(tmp_path: Path) -> None:
    task = Toy()
    task.validate = lambda: 1.0  # type: ignore[method-assign]
    state = run(task, tmp_path / "c.safetensors", patience=2)
    assert (state.step, state.best_step) == (15, 5)


def test_without_selection_the_last_weights_stay_and_nothing_is_validated(tmp_path: Path) -> None:
    task = Toy()
    task.validate = None  # type: ignore[assignment]  # calling it is an error
    state = run(task, tmp_path / "c.safetensors", patience=1, selects=False)
    assert (state.step, state.best_step, state.best_value) == (40, 40, None)
    assert len(state.curve) == 8
    assert not any("valid_auc" in entry for entry in state.curve)

    by_hand = Toy()
    optimiser = by_hand.optimiser()
    for step in range(40):
        batches = by_hand.batches(step // 4)[step % 4]
        optimiser.zero_grad()
        for number, rows in enumerate(batches):
            seed_draws(derive_seed(3, "micro-batch", step, number))
            (by_hand.loss_sum(rows) / 8).backward()
        torch.nn.utils.clip_grad_norm_(by_hand.model.parameters(), 1.0)
        optimiser.step()
    for name, tensor in by_hand.state().items():
        torch.testing.assert_close(tensor, task.state()[name])


def test_nan_loss_names_step_rate_and_rows(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"toy: loss is nan at step 2 with learning rates 0.05 on batch rows \d+, \d+"):
        run(Toy(poison_step=4), tmp_path / "c.safetensors")


def test_a_damaged_checkpoint_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(RunError, match="cannot be read as safetensors"):
        load_tensors(path)
