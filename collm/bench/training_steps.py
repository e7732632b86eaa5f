"""Optimiser steps of a spec through the harness's own training loop, timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from collm.bench.flops import Tokens, count_tokens, model_size, needed_flops
from collm.bench.machine import Clock
from collm.bench.subject import Subject
from collm.contracts.tuning import TuneStep
from collm.data.prepared import Rows
from collm.engine.device import derive_seed
from collm.engine.language_task import LanguageTask
from collm.engine.train import LoopSettings, train

Array = np.ndarray[Any, Any]


class TrainingSteps:
    """Steps of the training loop, without validation."""

    def __init__(self, subject: Subject, step: TuneStep, *, rows: Rows, keeps_prefixes: bool = False) -> None:
        """Encodes training rows for one tuning step.

        Args:
            subject: The spec's model and data.
            step: The step.
            rows: Training rows.
            keeps_prefixes: Whether keys and values are kept as `tuning.prefix_cache_gb` says; else none are.
        """
        self._subject, self._step = subject, step
        self._groups = step.trained
        self._prompts = subject.source(step.variant).encode(rows)
        subject.recommender.set_trainable(self._groups)
        subject.recommender.keep_prefixes(None)
        tuning = (
            subject.setup.tuning if keeps_prefixes else subject.setup.tuning.model_copy(update={"prefix_cache_gb": 0.0})
        )
        self._task = LanguageTask(
            subject.recommender,
            step,
            tuning,
            title=f"bench {step.name}",
            train=self._prompts,
            valid=self._prompts,
            seed=derive_seed(subject.setup.spec.seed, "bench", step.name),
        )
        self._kept = subject.recommender.kept_prefixes
        self._accelerator = Accelerator(cpu=subject.device.type == "cpu")
        self._epoch = self._task.batches(0)

    def batches(self, start: int, n_steps: int) -> list[Sequence[Array]]:
        """Returns some steps' micro-batches of row numbers."""
        return [self._epoch[number % len(self._epoch)] for number in range(start, start + n_steps)]

    def run(self, batches: Sequence[Sequence[Array]], clock: Clock) -> float:
        """Runs optimiser steps through the harness's own training loop.

        Args:
            batches: The steps' micro-batches of row numbers.
            clock: Measures the time.

        Returns:
            Seconds until the last step is done, without the checkpoint that the loop then writes.
        """
        subject = self._subject
        subject.recommender.set_trainable(self._groups, frozen_lora_dropout=subject.setup.tuning.frozen_lora_dropout)
        subject.recommender.keep_prefixes(self._kept)
        settings = LoopSettings(
            max_steps=len(batches),
            validate_every=len(batches),
            patience=1,
            clip_norm=subject.setup.tuning.clip_norm,
            checkpoint_seconds=float("inf"),
            seed=derive_seed(subject.setup.spec.seed, "bench", "draws"),
        )
        checkpoint = subject.folder / "bench.safetensors"
        checkpoint.unlink(missing_ok=True)
        steps = _Steps(self._task, batches, clock)
        train(
            steps,
            settings,
            accelerator=self._accelerator,
            checkpoint=checkpoint,
            observer=lambda *_: None,
        )
        subject.recommender.set_trainable(())
        return steps.seconds

    def tokens(self, batches: Sequence[Sequence[Array]]) -> Tokens:
        """Returns the distinct tokens of every step, added up: weights move between steps, so nothing is shared."""
        total = Tokens(0)
        for batch in batches:
            total += count_tokens(
                self._prompts, np.concatenate(list(batch)), trains=True, lora_trains="lora" in self._groups
            )
        # What is kept is not run again.
        return total if self._kept is None else Tokens(total.differentiated, total.differentiated)

    def flops(self, batches: Sequence[Sequence[Array]]) -> float:
        """Returns the operations that the steps need."""
        size = model_size(self._subject.recommender.lm)
        return needed_flops(size, self.tokens(batches), lora_trains="lora" in self._groups)


@dataclass
class _Steps:
    """A task of the training loop: chosen batches, nothing to validate, no weights to keep."""

    task: LanguageTask
    chosen: Sequence[Sequence[Array]]
    clock: Clock
    title: str = field(init=False)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.title = self.task.title
        self._start = self.clock.start()

    def optimiser(self) -> torch.optim.Optimizer:
        return self.task.optimiser()

    def factor(self, step: int, group: Mapping[str, Any]) -> float:
        return self.task.factor(step, group)

    def batches(self, epoch: int) -> Sequence[Sequence[Array]]:  # noqa: ARG002
        return self.chosen

    def loss_sum(self, rows: Array) -> torch.Tensor:
        return self.task.loss_sum(rows)

    def validate(self) -> float:
        self.seconds = self.clock.since(self._start)
        return 0.5

    def state(self) -> dict[str, torch.Tensor]:
        return {}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        pass
