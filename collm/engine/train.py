"""The one training loop: encoders and language-model steps run through it alike.

It knows nothing of recommenders or prompts: a task gives batches of row numbers, a loss and a validation value.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator

from collm.engine.checkpoint import flatten_optimiser, load_tensors, restore_optimiser, save_tensors
from collm.engine.progress import progress
from collm.engine.seeding import generator_state, restore_generator_state
from collm.errors import RunError

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
        """Returns the summed loss of these rows, a scalar with gradient."""
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


@dataclass(frozen=True)
class LoopSettings:
    """How long and how carefully to train.

    Attributes:
        max_steps: Optimiser steps at most.
        validate_every: Optimiser steps between validations.
        patience: Validations without a strictly better value before stopping.
        clip_norm: Gradient norm limit, None = no clipping.
        checkpoint_seconds: Seconds between checkpoints.
    """

    max_steps: int
    validate_every: int
    patience: int
    clip_norm: float | None
    checkpoint_seconds: float


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
) -> LoopState:
    """Trains until the steps or the patience run out, then puts the best weights into the task.

    A checkpoint at `checkpoint` is continued from: weights, best weights, optimiser, generators and position come from
    it.

    Raises:
        RunError: If a loss or validation value is not finite, or the checkpoint does not fit.
    """
    loop = _Loop(task, settings, accelerator, checkpoint, observer)
    return loop.run()


class _Loop:
    def __init__(
        self, task: TrainTask, settings: LoopSettings, accelerator: Accelerator, checkpoint: Path, observer: Observer
    ) -> None:
        self._task, self._settings, self._accelerator = task, settings, accelerator
        self._checkpoint, self._observer = checkpoint, observer
        self._optimiser = task.optimiser()
        self._peaks = [group["lr"] for group in self._optimiser.param_groups]
        self._state = LoopState()
        self._best: dict[str, torch.Tensor] = {}
        self._batches: Sequence[Sequence[IndexArray]] = ()

    def run(self) -> LoopState:
        if self._checkpoint.exists():
            self._resume()
        state, start, base = self._state, time.monotonic(), self._state.seconds
        saved = start
        with progress(self._task.title, self._settings.max_steps) as ticker:
            ticker.advance(state.step)
            while not state.finished:
                values = self._step()
                state.seconds = base + time.monotonic() - start
                ticker.advance(1, values)
                if state.step % self._settings.validate_every == 0 or state.step >= self._settings.max_steps:
                    self._validate(values)
                if time.monotonic() - saved >= self._settings.checkpoint_seconds:
                    self._save()
                    saved = time.monotonic()
        state.seconds = base + time.monotonic() - start
        self._save()
        self._task.load_state(self._best)
        return state

    def _step(self) -> dict[str, float]:
        state = self._state
        if not self._batches or state.step % len(self._batches) == 0:
            self._load_epoch()
        micro_batches = self._batches[state.step % len(self._batches)]
        n_rows = sum(len(rows) for rows in micro_batches)
        rates = self._set_rates(state.step)
        self._optimiser.zero_grad(set_to_none=True)
        total = 0.0
        for rows in micro_batches:
            loss = self._task.loss_sum(rows)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise RunError(self._not_finite("loss", value, rates, rows))
            self._accelerator.backward(loss / n_rows)
            total += value
        if self._settings.clip_norm is not None:
            parameters = [p for group in self._optimiser.param_groups for p in group["params"]]
            self._accelerator.clip_grad_norm_(parameters, self._settings.clip_norm)
        self._optimiser.step()
        state.step += 1
        state.rows_seen += n_rows
        return {"loss": total / n_rows, "learning_rate": rates[0]}

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
        state = self._state
        value = self._task.validate()
        if not math.isfinite(value):
            raise RunError(f"{self._task.title}: validation value is {value} at step {state.step}")
        if state.best_value is None or value > state.best_value:
            state.best_value, state.best_step, state.n_since_best = value, state.step, 0
            self._best = {name: tensor.detach().clone() for name, tensor in self._task.state().items()}
        else:
            state.n_since_best += 1
        state.finished = state.step >= self._settings.max_steps or state.n_since_best >= self._settings.patience
        entry = {"step": state.step, "rows": state.rows_seen, "seconds": state.seconds, "valid_auc": value, **values}
        state.curve.append(entry)
        self._observer(state.step, {name: number for name, number in entry.items() if name != "step"})

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
        tensors |= {f"generator.{name}": tensor for name, tensor in generator_state().items()}
        save_tensors(self._checkpoint, tensors, {"state": asdict(self._state)})

    def _resume(self) -> None:
        tensors, metadata = load_tensors(self._checkpoint)
        parts: dict[str, dict[str, torch.Tensor]] = {"weights": {}, "best": {}, "optimiser": {}, "generator": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        self._task.load_state(parts["weights"])
        self._best = parts["best"]
        restore_optimiser(self._optimiser, parts["optimiser"])
        restore_generator_state(parts["generator"])
        self._state = LoopState(**metadata["state"])
        self._observer(self._state.step, {"resumed": 1.0})
