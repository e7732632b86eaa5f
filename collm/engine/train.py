"""The one training loop: encoders and language-model steps run through it alike, in one process or several.

It knows nothing of recommenders or prompts: a task gives batches of row numbers, a loss and a validation value.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from accelerate import Accelerator

from collm.data.shares import deal
from collm.engine.checkpoint import flatten_optimiser, load_tensors, restore_optimiser, save_tensors
from collm.engine.gradients import add_up_gradients
from collm.engine.progress import progress
from collm.engine.seeding import derive_seed, seed_draws
from collm.errors import RunError
from collm.runs.team import ALONE, Team

IndexArray = np.ndarray[Any, Any]
Observer = Callable[[int, Mapping[str, float]], None]


class TrainTask(Protocol):
    """What is trained."""

    title: str

    def optimiser(self) -> torch.optim.Optimizer:
        """Returns the optimiser; each group's `lr` is its peak rate."""
        ...

    def factor(self, step: int, group: Mapping[str, Any]) -> float:
        """Returns the schedule's factor on the peak rate of one group at a 0-based step."""
        ...

    def batches(self, epoch: int) -> Sequence[Sequence[IndexArray]]:
        """Returns the epoch's optimiser steps, each as micro-batches of row numbers.

        A function of the epoch alone, with as many steps in every epoch: so a resumed run finds its place.
        """
        ...

    def loss_sum(self, rows: IndexArray) -> torch.Tensor:
        """Returns the summed loss of these rows, a scalar with gradient; random draws from torch's generators only."""
        ...

    def validate(self) -> float:
        """Returns the validation value, higher is better."""
        ...

    def state(self) -> dict[str, torch.Tensor]:
        """Returns everything that training changes, by name."""
        ...

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Puts back what `state` returned; strict keys."""
        ...


@runtime_checkable
class SharedTask(TrainTask, Protocol):
    """What several processes can train: its loss is a sum over micro-batches, whoever has them."""

    def cost(self, rows: IndexArray) -> float:
        """Returns how much work a micro-batch is, in any unit."""
        ...


@dataclass(frozen=True)
class LoopSettings:
    """How long and how carefully to train.

    Attributes:
        max_steps: Optimiser steps at most.
        validate_every: Optimiser steps between validations.
        patience: Validations without a strictly better value before stopping.
        clip_norm: Gradient norm limit, None = no clipping.
        checkpoint_seconds: Seconds between checkpoints.
        seed: Decides what is drawn within the steps, e.g. dropout.
    """

    max_steps: int
    validate_every: int
    patience: int
    clip_norm: float | None
    checkpoint_seconds: float
    seed: int


@dataclass
class LoopState:
    """Where training stands; written into every checkpoint."""

    step: int = 0
    best_value: float | None = None
    best_step: int = 0
    n_since_best: int = 0
    rows_seen: int = 0
    seconds: float = 0.0
    finished: bool = False
    curve: list[dict[str, float]] = field(default_factory=list)


def train(
    task: TrainTask,
    settings: LoopSettings,
    *,
    accelerator: Accelerator,
    checkpoint: Path,
    observer: Observer,
    team: Team = ALONE,
) -> LoopState:
    """Trains until the steps or the patience run out, then puts the best weights into the task.

    A checkpoint at `checkpoint` is continued from: weights, best weights, optimiser and position come from it. Random
    draws are a function of seed, step and micro-batch, so that nothing of them needs to be kept.

    Processes are dealt whole micro-batches, cut without regard to their number: only the order of adding up differs.

    Args:
        task: What is trained; a `SharedTask` where the team has several processes.
        settings: How long and how carefully.
        accelerator: Backward pass and clipping.
        checkpoint: Written by the main process, read by all.
        observer: Called in the main process.
        team: The processes that train together; each works on some micro-batches of every global batch.

    Raises:
        RunError: If a loss or validation value is not finite, or the checkpoint does not fit.
    """
    return _Loop(task, settings, accelerator, checkpoint, observer, team).run()


class _Loop:
    def __init__(
        self,
        task: TrainTask,
        settings: LoopSettings,
        accelerator: Accelerator,
        checkpoint: Path,
        observer: Observer,
        team: Team,
    ) -> None:
        self._task, self._settings, self._accelerator = task, settings, accelerator
        self._checkpoint, self._observer, self._team = checkpoint, observer, team
        self._optimiser = task.optimiser()
        self._peaks = [group["lr"] for group in self._optimiser.param_groups]
        self._parameters = [each for group in self._optimiser.param_groups for each in group["params"]]
        self._state = LoopState()
        self._best: dict[str, torch.Tensor] = {}
        self._batches: Sequence[Sequence[IndexArray]] = ()
        self._saved = time.monotonic()
        self._fault = ""

    def run(self) -> LoopState:
        if self._team.from_main(self._checkpoint.exists):
            self._resume()
        self._team.copy_from_main(self._task.state().values())
        start, base = time.monotonic(), self._state.seconds
        with progress(self._task.title, self._settings.max_steps, shown=self._team.is_main) as ticker:
            ticker.advance(self._state.step)
            while not self._state.finished:
                values, save = self._step()
                self._state.seconds = base + time.monotonic() - start
                ticker.advance(1, values)
                if (
                    self._state.step % self._settings.validate_every == 0
                    or self._state.step >= self._settings.max_steps
                ):
                    self._validate(values)
                if save:
                    self._team.from_main(self._save)
        self._state.seconds = base + time.monotonic() - start
        self._team.from_main(self._save)
        self._task.load_state(self._best)
        return self._state

    def _step(self) -> tuple[dict[str, float], bool]:
        """Returns logged values, and whether the main process wants a checkpoint after this step."""
        state, team = self._state, self._team
        if not self._batches or state.step % len(self._batches) == 0:
            self._load_epoch()
        micro_batches = self._batches[state.step % len(self._batches)]
        n_rows = sum(len(rows) for rows in micro_batches)
        rates = self._set_rates(state.step)
        self._optimiser.zero_grad(set_to_none=True)
        own = self._accumulate(micro_batches, n_rows, rates)
        due = team.is_main and time.monotonic() - self._saved >= self._settings.checkpoint_seconds
        total, save = add_up_gradients(self._parameters, (own, float(due)), team=team)
        if not math.isfinite(total):
            team.together(self._complain)
            raise RunError(self._not_finite("summed loss", total, rates, micro_batches[0]))
        if self._settings.clip_norm is not None:
            self._accelerator.clip_grad_norm_(self._parameters, self._settings.clip_norm)
        self._optimiser.step()
        state.step += 1
        state.rows_seen += n_rows
        return {"loss": total / n_rows, "learning_rate": rates[0]}, save > 0

    def _accumulate(self, micro_batches: Sequence[IndexArray], n_rows: int, rates: Sequence[float]) -> float:
        """Adds up the gradients of this process's micro-batches of a global batch; returns their summed loss."""
        own, n_idle = self._dealt(micro_batches)
        total = 0.0
        for number in own:
            rows = micro_batches[number]
            seed_draws(derive_seed(self._settings.seed, "micro-batch", self._state.step, number))
            loss = self._task.loss_sum(rows)
            value = float(loss.detach())
            if not math.isfinite(value) and not self._fault:
                self._fault = self._not_finite("loss", value, rates, rows)
            self._accelerator.backward(loss / n_rows)
            total += value
        # Sharded weights are gathered by all at once: whoever has less to do goes along and adds nothing.
        for _ in range(n_idle):
            self._accelerator.backward(0.0 * self._task.loss_sum(micro_batches[0][:1]))
        return total

    def _dealt(self, micro_batches: Sequence[IndexArray]) -> tuple[Sequence[int], int]:
        """Returns which micro-batches are this process's, and how often it must go along for the sake of others."""
        if self._team.size == 1:
            return range(len(micro_batches)), 0
        assert isinstance(self._task, SharedTask)
        shares = deal([self._task.cost(rows) for rows in micro_batches], self._team.size)
        own = shares[self._team.index]
        return own, max(map(len, shares)) - len(own) if self._team.shards else 0

    def _complain(self) -> None:
        if self._fault:
            raise RunError(self._fault)

    def _load_epoch(self) -> None:
        first = self._task.batches(0)
        epoch = self._state.step // len(first)
        self._batches = first if epoch == 0 else self._task.batches(epoch)

    def _set_rates(self, step: int) -> list[float]:
        rates = []
        for group, peak in zip(self._optimiser.param_groups, self._peaks, strict=True):
            group["lr"] = peak * self._task.factor(step, group)
            rates.append(group["lr"])
        return rates

    def _validate(self, values: dict[str, float]) -> None:
        # Parameters are equal already; buffers that an encoder updates by its own rows may not be.
        self._team.copy_from_main(self._task.state().values())
        value = self._task.validate()
        self._state = LoopState(**self._team.from_main(lambda: asdict(self._judged(value, values))))
        if self._state.best_step == self._state.step:
            self._best = {name: tensor.detach().clone() for name, tensor in self._task.state().items()}

    def _judged(self, value: float, values: Mapping[str, float]) -> LoopState:
        """Decides whether to go on: once, in the main process, whose observers hear of it."""
        state = self._state
        if not math.isfinite(value):
            raise RunError(f"{self._task.title}: validation value is {value} at step {state.step}")
        if state.best_value is None or value > state.best_value:
            state.best_value, state.best_step, state.n_since_best = value, state.step, 0
        else:
            state.n_since_best += 1
        state.finished = state.step >= self._settings.max_steps or state.n_since_best >= self._settings.patience
        entry = {"step": state.step, "rows": state.rows_seen, "seconds": state.seconds, "valid_auc": value, **values}
        state.curve.append(entry)
        self._observer(state.step, {name: number for name, number in entry.items() if name != "step"})
        return state

    def _not_finite(self, what: str, value: float, rates: Sequence[float], rows: IndexArray) -> str:
        shown = ", ".join(str(int(row)) for row in rows[:8]) + (" ..." if len(rows) > 8 else "")
        return (
            f"{self._task.title}: {what} is {value} at step {self._state.step} with learning rates "
            f"{', '.join(f'{rate:.3g}' for rate in rates)} on batch rows {shown}; "
            "lower the learning rate or use float32"
        )

    def _save(self) -> None:
        tensors = {f"weights.{name}": tensor for name, tensor in self._task.state().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self._best.items()}
        tensors |= {f"optimiser.{name}": tensor for name, tensor in flatten_optimiser(self._optimiser).items()}
        save_tensors(self._checkpoint, tensors, {"state": asdict(self._state)})
        self._saved = time.monotonic()

    def _resume(self) -> None:
        tensors, metadata = load_tensors(self._checkpoint)
        parts: dict[str, dict[str, torch.Tensor]] = {"weights": {}, "best": {}, "optimiser": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        self._task.load_state(parts["weights"])
        self._best = parts["best"]
        restore_optimiser(self._optimiser, parts["optimiser"])
        self._state = LoopState(**metadata["state"])
        self._team.from_main(lambda: self._observer(self._state.step, {"resumed": 1.0}))
