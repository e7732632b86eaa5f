"""The phases of an encoder's fit, one after another through the one training loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from collm.contracts.encoder import FitPhase
from collm.data.prepared import PreparedData, Rows
from collm.data.slices import part_in_time
from collm.engine.device import derive_seed
from collm.engine.encoder_task import EncoderBatcher, EncoderTask
from collm.engine.train import LoopSettings, Observer, train
from collm.errors import DataError, PluginError
from collm.model.encoder import EncoderModule

CHECKPOINT = "checkpoint-{}.safetensors"
CHECKPOINT_SECONDS = 15.0


@dataclass(frozen=True)
class PhaseCourse:
    """How one phase went.

    Attributes:
        name: Name of the phase.
        select: What its weights were selected by.
        best_value: Best validation value: an AUC, or minus a loss.
        best_epoch: Epoch of it.
        epochs: Epochs run.
        steps: Optimiser steps run.
        seconds: Wall time.
        extra: What the phase itself has to say.
    """

    name: str
    select: str
    best_value: float
    best_epoch: int
    epochs: int
    steps: int
    seconds: float
    extra: Mapping[str, Any]

    def facts(self) -> dict[str, Any]:
        """Returns what results say of the phase."""
        by_auc = self.select == "auc"
        return {
            "best_valid_auc" if by_auc else "best_valid_loss": self.best_value if by_auc else -self.best_value,
            "best_epoch": self.best_epoch,
            "epochs": self.epochs,
            **self.extra,
        }


def fit_in_phases(
    encoder: EncoderModule,
    phases: Sequence[FitPhase],
    data: PreparedData,
    *,
    batcher: EncoderBatcher,
    title: str,
    seed: int,
    folder: Path,
    accelerator: Accelerator,
    observer: Observer,
) -> list[PhaseCourse]:
    """Runs the phases; the encoder ends with the best weights of the last one.

    An interrupted fit is continued: a phase that had ended is passed over through its checkpoint.

    Args:
        encoder: What is scored for phases that select by AUC.
        phases: In order; the last one selects by AUC.
        data: Gives training and validation rows.
        batcher: Makes the encoder's batches.
        title: Names the fit in progress and messages.
        seed: Decides the order of batches and what is drawn within the steps.
        folder: Holds one checkpoint per phase; the caller removes them.
        accelerator: Device and backward pass.
        observer: Receives logged numbers; steps count on through the phases.

    Returns:
        One entry per phase.

    Raises:
        PluginError: If two phases share a name, or the last one does not select by AUC.
    """
    if not phases or phases[-1].select != "auc" or len({phase.name for phase in phases}) < len(phases):
        shown = ", ".join(f"{phase.name} (by {phase.select})" for phase in phases) or "none"
        raise PluginError(
            f"{title}: fit phases must have different names and the last one must select by auc; got: {shown}"
        )
    courses: list[PhaseCourse] = []
    for phase in phases:
        shown = title if len(phases) == 1 else f"{title} {phase.name}"
        task = EncoderTask(
            encoder,
            phase,
            title=shown,
            batcher=batcher,
            train=training_part(data, phase.part, title=shown),
            valid=data.rows("valid"),
            seed=seed,
        )
        steps_before = sum(course.steps for course in courses)
        watch = _naming_the_value(observer, phase, steps_before)
        draws = derive_seed(seed, "draws", shown)
        courses.append(_run(task, phase, seed=draws, checkpoint_in=folder, accelerator=accelerator, observer=watch))
    return courses


def training_part(data: PreparedData, part: tuple[float, float], *, title: str) -> Rows:
    """Returns the training rows of a share of time.

    Raises:
        PluginError: If the share is empty.
        DataError: If the dataset has no times, or no row lies in the share.
    """
    rows = data.rows("train")
    if part == (0.0, 1.0):
        return rows
    if not 0 <= part[0] < part[1] <= 1:
        raise PluginError(f"{title}: part is {part}; asked are two rising numbers of 0 to 1")
    if not data.has_times:
        raise DataError(f"{title}: trains on a part of the training rows in time, but the dataset has no times")
    inside = part_in_time(rows.timestamp, part)
    if not inside.any():
        raise DataError(
            f"{title}: none of the {len(rows)} training rows lies in the part {part[0]:g} to {part[1]:g} of their time "
            "without dividing a second; take more rows"
        )
    return rows.take(np.flatnonzero(inside))


def _run(
    task: EncoderTask, phase: FitPhase, *, seed: int, checkpoint_in: Path, accelerator: Accelerator, observer: Observer
) -> PhaseCourse:
    settings = LoopSettings(
        max_steps=phase.fit.epochs * task.steps_per_epoch,
        validate_every=task.steps_per_epoch,
        patience=phase.fit.patience,
        clip_norm=None,
        checkpoint_seconds=CHECKPOINT_SECONDS,
        seed=seed,
    )
    checkpoint = checkpoint_in / CHECKPOINT.format(phase.name)
    state = train(task, settings, accelerator=accelerator, checkpoint=checkpoint, observer=observer)
    assert state.best_value is not None  # the last step validates at the latest
    return PhaseCourse(
        name=phase.name,
        select=phase.select,
        best_value=state.best_value,
        best_epoch=state.best_step // task.steps_per_epoch,
        epochs=state.step // task.steps_per_epoch,
        steps=state.step,
        seconds=round(state.seconds, 2),
        extra=phase.facts,
    )


def _naming_the_value(observer: Observer, phase: FitPhase, steps_before: int) -> Observer:
    """Counts steps on through the phases, and calls a validation loss what it is."""

    def observe(step: int, values: Mapping[str, float]) -> None:
        shown = dict(values)
        if phase.select == "loss" and "valid_auc" in shown:
            shown["valid_loss"] = -shown.pop("valid_auc")
        observer(steps_before + step, shown)

    return observe
