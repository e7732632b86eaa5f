"""What the training loop takes and keeps: a task, how long to train it, and how far training is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from collm.errors import RunError

IndexArray = np.ndarray[Any, Any]
logger = logging.getLogger(__name__)
T = TypeVar("T")
Array = np.ndarray[Any, Any]


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
        """Returns the epoch's optimiser steps, each as micro-batches: row numbers [n], or lines [n, k] that begin so.

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
    """What several processes can train: its loss is a sum over micro-batches, in any process."""

    def cost(self, rows: IndexArray) -> float:
        """Returns how much work a micro-batch is, in any unit."""
        ...


@runtime_checkable
class DivisibleTask(TrainTask, Protocol):
    """Whose global batches can be cut into smaller micro-batches; the gradient of a global batch stays the same."""

    def half_size(self, micro_batches: Sequence[IndexArray]) -> int:
        """Returns half the size of the largest of some micro-batches, in the unit of `limit`."""
        ...

    def limit(self, size: int) -> str:
        """Makes `batches` cut no micro-batch larger than that, single rows aside; returns how to ask for it at once."""
        ...

    def smaller_rows(self) -> str:
        """Returns what to set where a single row does not fit into memory."""
        ...


@runtime_checkable
class CountingTask(TrainTask, Protocol):
    """Which counts the tokens that it computes.

    Attributes:
        n_tokens: Tokens of all `loss_sum` so far, in this process.
    """

    n_tokens: int


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
        selects: Whether the weights with the best validation value are kept. Otherwise those of the last step are:
            nothing is validated, and `patience` has no effect.
    """

    max_steps: int
    validate_every: int
    patience: int
    clip_norm: float | None
    checkpoint_seconds: float
    seed: int
    selects: bool = True


@dataclass
class LoopState:
    """Progress of training; written into every checkpoint.

    Attributes:
        step: Optimiser steps done.
        best_value: Best validation value; None before the first, and where nothing is validated.
        best_step: Step of the weights that are kept.
        n_since_best: Validations since.
        rows_seen: Rows trained on, with repetitions.
        tokens: Tokens computed in the steps, over all processes; None where they are not counted, or were not when the
            training began.
        seconds: Wall time.
        finished: Whether steps or patience ran out.
        micro_batch_size: What `DivisibleTask.limit` was last given; None = memory never ran out.
        curve: One entry per validation, or where one would be.
    """

    step: int = 0
    best_value: float | None = None
    best_step: int = 0
    n_since_best: int = 0
    rows_seen: int = 0
    tokens: int | None = None
    seconds: float = 0.0
    finished: bool = False
    micro_batch_size: int | None = None
    curve: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class OutOfMemory:
    """Returned instead of a result where memory ran out.

    Attributes:
        said: First line of the device's own message.
    """

    said: str


def attempt(work: Callable[[], T]) -> T | OutOfMemory:
    """Does work and returns its result, or says that memory ran out; then all that the work had allocated is free."""
    try:
        return work()
    except RuntimeError as error:
        if not (isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)):
            raise
        said = (str(error).splitlines() or ["out of memory"])[0]
    # Not within the handler: the traceback there still holds the tensors.
    clear_device_cache(garbage_collection=True)
    return OutOfMemory(said)


class InParts:
    """Scores rows at once or, after memory has run out, in as many parts as it takes."""

    def __init__(self, score: Callable[[Array], torch.Tensor], *, smaller: str) -> None:
        """Takes what scores.

        Args:
            score: Returns the float32 [n] logits of row numbers; a row's logit does not depend on the others.
            smaller: What to set where a single row does not fit.
        """
        self._score, self._smaller = score, smaller
        self._n_parts = 1

    def __call__(self, rows: Array) -> torch.Tensor:
        """Returns float32 [n] logits on the processor.

        Raises:
            RunError: If memory runs out on a single row.
        """
        while True:
            parts = np.array_split(rows, min(self._n_parts, len(rows)))
            done = attempt(lambda: torch.cat([self._score(part).float().cpu() for part in parts]))  # noqa: B023 - called at once
            if not isinstance(done, OutOfMemory):
                return done
            if len(parts) == len(rows):
                raise RunError(f"scoring: a single row does not fit into memory ({done.said}); {self._smaller}")
            if self._n_parts == 1:
                logger.warning("scoring: out of memory (%s); going on with smaller batches", done.said)
            self._n_parts *= 2
