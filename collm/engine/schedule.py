"""Learning-rate schedules: factors on the peak rate by optimiser step."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import get_scheduler

from collm.contracts.tuning import ScheduleName


@functools.cache
def _of_transformers(name: str, warmup: int, total: int, lowest: float) -> Callable[[int], float]:
    """Returns transformers' factor by 0-based step; `lowest` is the share of the peak that a cosine ends with."""
    extra = {"min_lr_rate": lowest} if name == "cosine_with_min_lr" else None
    unused = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    factor: Callable[[int], float] = get_scheduler(name, unused, warmup, total, extra).lr_lambdas[0]
    return factor


@dataclass(frozen=True)
class Schedule:
    """A learning-rate schedule.

    Attributes:
        name: `linear-warmup-cosine` ramps up by the step and falls to 0 by a half cosine; `reference-sawtooth` is the
            published code's (`LinearWarmupCosineLRScheduler`): the warm-up ramps by the step within an epoch, so it
            starts again with each, and the cosine falls by the total step to a rate above 0; `constant` is 1; the
            others are transformers' of these names.
        total: Optimiser steps at most in this step of tuning.
        warmup: Steps of linear warm-up.
        epoch_steps: Steps per epoch, for `reference-sawtooth`.
        warmup_start: Rate that its warm-up begins with.
        min_rate: Rate that its cosine and that of `cosine_with_min_lr` end with.
    """

    name: ScheduleName
    total: int
    warmup: int
    epoch_steps: int = 1
    warmup_start: float = 0.0
    min_rate: float = 0.0

    def factor(self, step: int, peak: float) -> float:
        """Returns the factor on the peak learning rate for one optimiser step.

        Args:
            step: 0-based optimiser step.
            peak: Peak learning rate, which the absolute rates are divided by.
        """
        if self.name == "constant":
            return 1.0
        if self.name == "reference-sawtooth":
            return self._reference(step, peak) / peak
        if self.name != "linear-warmup-cosine":
            return _of_transformers(self.name, self.warmup, self.total, self.min_rate / peak)(step)
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        progress = (step - self.warmup) / max(1, self.total - self.warmup)
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))

    def fault(self, peak: float) -> str:
        """Says why the schedule never does what its numbers say, empty where it does.

        Args:
            peak: Peak learning rate.
        """
        if self.name != "constant" and self.warmup > self.total:
            return (
                f"the warm-up has {self.warmup:,} optimiser steps and the training {self.total:,}, so the learning "
                f"rate never reaches {peak:g}: set warmup_steps to {self.total // 10:,} or warmup_ratio to 0.1, say, "
                "or train for longer"
            )
        if self.name == "cosine_with_min_lr" and self.min_rate > peak:
            return (
                f"tuning.min_learning_rate is {self.min_rate:g}, more than the learning rate {peak:g}: the cosine "
                "would rise; set it to less"
            )
        return ""

    def _reference(self, step: int, peak: float) -> float:
        if step < self.warmup:
            # The published code compares the total step with the warm-up's length, but ramps by the step in its epoch.
            ramp = (step % self.epoch_steps) / max(1, self.warmup)
            return min(peak, self.warmup_start + (peak - self.warmup_start) * ramp)
        progress = min(1.0, step / max(1, self.total))
        return (peak - self.min_rate) * 0.5 * (1.0 + math.cos(math.pi * progress)) + self.min_rate
