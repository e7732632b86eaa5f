"""Learning-rate schedules: factors on the peak rate by optimiser step."""

from __future__ import annotations

import math

from collm.contracts.tuning import ScheduleName

REFERENCE_INNER_EPOCH = 50
REFERENCE_WARMUP_START = 1e-5
REFERENCE_MIN = 8e-5


def schedule_factor(name: ScheduleName, step: int, *, total: int, warmup: int, peak: float) -> float:
    """Returns the factor on the peak learning rate for one optimiser step.

    Args:
        name: `linear-warmup-cosine` counts global steps; `reference-sawtooth` repeats fact 39: warm-up uses the step
            inside an inner epoch of 50 steps; `constant` is 1.
        step: 0-based optimiser step.
        total: Optimiser steps at most in this step of tuning.
        warmup: Steps of linear warm-up.
        peak: Peak learning rate, for the reference's absolute start and minimum rates.
    """
    if name == "constant":
        return 1.0
    if name == "reference-sawtooth":
        return _reference(step, total=total, warmup=warmup, peak=peak)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, total - warmup)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def _reference(step: int, *, total: int, warmup: int, peak: float) -> float:
    epoch, inner = divmod(step, REFERENCE_INNER_EPOCH)
    n_epochs = max(1, math.ceil(total / REFERENCE_INNER_EPOCH))
    # The reference compares the *global* step with the warm-up length but ramps by the inner step (fact 39).
    if step < warmup:
        rate = REFERENCE_WARMUP_START + (peak - REFERENCE_WARMUP_START) * inner / max(1, warmup)
    else:
        rate = (peak - REFERENCE_MIN) * 0.5 * (1.0 + math.cos(math.pi * epoch / n_epochs)) + REFERENCE_MIN
    return rate / peak
