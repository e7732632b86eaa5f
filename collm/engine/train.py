"""The one training loop: encoders and language-model steps run through it alike, in one process or several.

It knows nothing of recommenders or prompts: a task gives batches of row numbers, a loss and a validation value.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from collm.data.batches import deal
from collm.engine.checkpoint import flatten_optimiser, load_tensors, restore_optimiser, save_tensors
from collm.engine.device import derive_seed, seed_draws
from collm.engine.progress import progress
from collm.engine.shares import add_up_gradients
from collm.engine.train_task import (
    CountingTask,
    DivisibleTask,
    IndexArray,
    LoopSettings,
    LoopState,
    OutOfMemory,
    SharedTask,
    TrainTask,
    attempt,
)
from collm.errors import RunError
from collm.process_group import SINGLE, ProcessGroup

__all__ = ["LoopSettings", "LoopState", "Observer", "SharedTask", "TrainTask", "train"]

logger = logging.getLogger(__name__)
Observer = Callable[[int, Mapping[str, float]], None]


def train(
    task: TrainTask,
    settings: LoopSettings,
    *,
    accelerator: Accelerator,
    checkpoint: Path,
    observer: Observer,
    processes: ProcessGroup = SINGLE,
) -> LoopState:
    """Trains until the steps or the patience run out, then puts the weights that are kept into the task.

    A checkpoint at `checkpoint` is continued from: weights, best weights, optimiser and position come from it. Random
    draws are a function of seed, step and micro-batch, so that nothing of them needs to be kept.

    Processes are dealt whole micro-batches, cut without regard to their number: only the order of adding up differs.

    Where a device runs out of memory, the step is begun again with smaller micro-batches, in all processes; the global
    batch and its gradient stay the same, and so do the sizes after a checkpoint.

    Args:
        task: What is trained; a `SharedTask` where the group has several processes.
        settings: How long and how carefully.
        accelerator: Backward pass and clipping.
        checkpoint: Written by the main process, read by all.
        observer: Called in the main process.
        processes: The processes that train together; each works on some micro-batches of every global batch.

    Raises:
        RunError: If a loss or validation value is not finite, the checkpoint does not fit, or memory does not suffice
            for a single row.
    """
    return _Loop(task, settings, accelerator, checkpoint, observer, processes).run()


class _Loop:
    def __init__(
        self,
        task: TrainTask,
        settings: LoopSettings,
        accelerator: Accelerator,
        checkpoint: Path,
        observer: Observer,
        processes: ProcessGroup,
    ) -> None:
        self._task, self._settings, self._accelerator = task, settings, accelerator
        self._checkpoint, self._observer, self._processes = checkpoint, observer, processes
        self._optimiser = task.optimiser()
        self._peaks = [group["lr"] for group in self._optimiser.param_groups]
        self._parameters = [each for group in self._optimiser.param_groups for each in group["params"]]
        self._state = LoopState(tokens=0 if isinstance(task, CountingTask) else None)
        self._best: dict[str, torch.Tensor] = {}
        self._batches: Sequence[Sequence[IndexArray]] = ()
        self._saved = time.monotonic()
        self._at_work: IndexArray = np.zeros(0, dtype=np.int64)
        self._fault = ""
        self._own_tokens = 0

    def run(self) -> LoopState:
        if self._processes.run_on_main(self._checkpoint.exists):
            self._resume()
        self._processes.broadcast(self._task.state().values())
        start, base = time.monotonic(), self._state.seconds
        done, shown = self._state.step, self._processes.is_main
        with progress(self._task.title, self._settings.max_steps, done=done, shown=shown) as ticker:
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
                    self._processes.run_on_main(self._save)
        self._state.seconds = base + time.monotonic() - start
        self._processes.run_on_main(self._save)
        self._task.load_state(self._best)
        return self._state

    def _step(self) -> tuple[dict[str, float], bool]:
        """Returns logged values, and whether the main process wants a checkpoint after this step."""
        state, processes = self._state, self._processes
        if not self._batches or state.step % len(self._batches) == 0:
            self._load_epoch()
        rates = self._set_rates(state.step)
        due = processes.is_main and time.monotonic() - self._saved >= self._settings.checkpoint_seconds
        while True:
            micro_batches = self._batches[state.step % len(self._batches)]
            n_rows = sum(len(rows) for rows in micro_batches)
            self._optimiser.zero_grad(set_to_none=True)
            own, short = self._accumulate_if_it_fits(micro_batches, n_rows, rates)
            numbers = (own, float(due), float(short), float(self._own_tokens))
            total, save, n_short, n_tokens = add_up_gradients(self._parameters, numbers, processes=processes)
            if not math.isfinite(total):
                processes.run_on_all(self._complain)
                raise RunError(self._not_finite("summed loss", total, rates, micro_batches[0]))
            if not n_short:
                break
            self._divide(micro_batches)
        if self._settings.clip_norm is not None:
            self._accelerator.clip_grad_norm_(self._parameters, self._settings.clip_norm)
        self._optimiser.step()
        state.step += 1
        state.rows_seen += n_rows
        if state.tokens is not None:
            state.tokens += int(n_tokens)
        return {"loss": total / n_rows, "learning_rate": rates[0]}, save > 0

    def _n_tokens(self) -> int:
        return self._task.n_tokens if isinstance(self._task, CountingTask) else 0

    def _accumulate_if_it_fits(
        self, micro_batches: Sequence[IndexArray], n_rows: int, rates: Sequence[float]
    ) -> tuple[float, bool]:
        """Returns the summed loss of this process's micro-batches, and whether memory ran out over them."""
        done = attempt(lambda: self._accumulate(micro_batches, n_rows, rates))
        if not isinstance(done, OutOfMemory):
            return done, False
        if self._processes.shards:
            # The others wait within a layer for this process, so no step can be begun again.
            raise RunError(f"{self._task.title}: {done.said}; lower tuning.micro_batch_tokens")
        if isinstance(self._task, DivisibleTask) and len(self._at_work) > 1:
            return 0.0, True
        advice = self._task.smaller_rows() if isinstance(self._task, DivisibleTask) else "lower its batch size"
        self._fault = (
            f"{self._task.title}: {len(self._at_work)} rows at once do not fit into memory ({done.said}); {advice}"
        )
        return math.nan, True

    def _divide(self, micro_batches: Sequence[IndexArray]) -> None:
        """Makes smaller micro-batches of the same global batches; all processes do so by the same numbers."""
        assert isinstance(self._task, DivisibleTask)
        self._state.micro_batch_size = size = self._task.half_size(micro_batches)
        advice = self._task.limit(size)
        if self._processes.is_main:
            logger.warning(
                "%s: out of memory; going on with micro-batches half as large (%s)", self._task.title, advice
            )
        self._load_epoch()

    def _accumulate(self, micro_batches: Sequence[IndexArray], n_rows: int, rates: Sequence[float]) -> float:
        """Adds up the gradients of this process's micro-batches of a global batch; returns their summed loss."""
        own, n_idle = self._dealt(micro_batches)
        total, before = 0.0, self._n_tokens()
        for number in own:
            rows = self._at_work = micro_batches[number]
            seed_draws(derive_seed(self._settings.seed, "micro-batch", self._state.step, number))
            loss = self._task.loss_sum(rows)
            value = float(loss.detach())
            if not math.isfinite(value) and not self._fault:
                self._fault = self._not_finite("loss", value, rates, rows)
            self._accelerator.backward(loss / n_rows)
            total += value
        self._own_tokens = self._n_tokens() - before
        # Sharded weights are gathered by all processes at once: one with fewer micro-batches adds some of weight 0.
        for _ in range(n_idle):
            self._accelerator.backward(0.0 * self._task.loss_sum(micro_batches[0][:1]))
        return total

    def _dealt(self, micro_batches: Sequence[IndexArray]) -> tuple[Sequence[int], int]:
        """Returns which micro-batches are this process's, and the number of dummy passes that keep FSDP in step."""
        if self._processes.size == 1:
            return range(len(micro_batches)), 0
        assert isinstance(self._task, SharedTask)
        shares = deal([self._task.cost(rows) for rows in micro_batches], self._processes.size)
        own = shares[self._processes.index]
        return own, max(map(len, shares)) - len(own) if self._processes.shards else 0

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
        self._processes.broadcast(self._task.state().values())
        value = self._task.validate() if self._settings.selects else None
        self._state = LoopState(**self._processes.run_on_main(lambda: asdict(self._judged(value, values))))
        if self._state.best_step == self._state.step:
            self._best = {name: tensor.detach().clone() for name, tensor in self._task.state().items()}

    def _judged(self, value: float | None, values: Mapping[str, float]) -> LoopState:
        """Decides whether to go on: once, in the main process, whose observers hear of it."""
        state = self._state
        if value is not None and not math.isfinite(value):
            raise RunError(f"{self._task.title}: validation value is {value} at step {state.step}")
        if value is None or state.best_value is None or value > state.best_value:
            state.best_value, state.best_step, state.n_since_best = value, state.step, 0
        else:
            state.n_since_best += 1
        state.finished = state.step >= self._settings.max_steps or state.n_since_best >= self._settings.patience
        validated = {} if value is None else {"valid_auc": value}
        entry = {"step": state.step, "rows": state.rows_seen, "seconds": state.seconds, **validated, **values}
        if state.tokens is not None:
            entry["tokens"] = state.tokens
        state.curve.append(entry)
        self._observer(state.step, {name: number for name, number in entry.items() if name != "step"})
        return state

    def _not_finite(self, what: str, value: float, rates: Sequence[float], rows: IndexArray) -> str:
        numbers = rows.reshape(len(rows), -1)[:8, 0]
        shown = ", ".join(str(int(row)) for row in numbers) + (" ..." if len(rows) > 8 else "")
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
        if self._state.micro_batch_size is not None and isinstance(self._task, DivisibleTask):
            self._task.limit(self._state.micro_batch_size)
        self._processes.run_on_main(lambda: self._observer(self._state.step, {"resumed": 1.0}))
