"""Training on from given weights: encoders and tuned groups, on all rows that are given, to the last step.

No row is held out, so nothing selects and nothing stops early. Optimisers start anew: finished stages keep weights, not
moments.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel

from collm.contracts.encoder import EncoderConfig
from collm.contracts.tuning import Group, GroupPlan, StepConfig, TuneStep
from collm.data.draws import draw_whole_groups
from collm.data.prepared import PreparedData, Rows
from collm.engine.checkpoint import save_tensors
from collm.engine.device import derive_seed, seed_torch
from collm.engine.encoder_task import EncoderBatcher, EncoderTask
from collm.engine.fit_phases import CHECKPOINT, CHECKPOINT_SECONDS
from collm.engine.train import LoopSettings, Observer, train
from collm.errors import RunError
from collm.model.encoder import EncoderModule, naming_encoder
from collm.spec.sections import Policy
from collm.stages.fit_encoder import (
    WEIGHTS,
    build_encoder,
    encoder_facts,
    fit_directly,
    load_strictly,
    save_trained_on,
)
from collm.stages.language_model import LanguageModelRun
from collm.stages.stage import RunContext
from collm.stages.tune import train_step

TRAINED = "trained"
SOLVED = "solved again"
REBUILT = "rebuilt"
LONGEST_WARMUP = 0.1
# Policy of an update -> what is tuned, after the encoder.
TUNED: Mapping[Policy, tuple[Group, ...]] = {
    "frozen": (),
    "encoder": (),
    "encoder+mapping": ("projector",),
    "all": ("projector", "lora"),
}
# What sentences call them.
PLAIN: Mapping[Group, str] = {"projector": "the mapping", "lora": "LoRA"}


@dataclass(frozen=True)
class ContinuedEncoder:
    """An encoder after it was trained on.

    Attributes:
        encoder: On the device of the run, in evaluation mode.
        facts: What results say of it: how it was `continued`, its `train_rows`, epochs and steps of each phase, and
            what the encoder itself says.
    """

    encoder: EncoderModule
    facts: dict[str, Any]


def rows_digest(rows: Rows) -> str:
    """Returns a hash of which rows of the table these are."""
    return hashlib.sha256(rows.index.astype("<i8").tobytes()).hexdigest()


def settled_config(config: EncoderConfig, encoder: EncoderModule) -> EncoderConfig:
    """Returns the settings with those given that the training rows of a built encoder decided (SASRec's length).

    On other rows they could come out otherwise, and weights would not fit.
    """
    found: BaseModel = config
    for name, value in encoder.settled().items():
        found = _settled(found, name.split("."), value)
    assert isinstance(found, EncoderConfig)
    return found


def _settled(config: BaseModel, path: Sequence[str], value: Any) -> BaseModel:
    name, *rest = path
    own = getattr(config, name)
    if rest:
        value = _settled(own, rest, value)
    elif own is not None:
        return config
    return config.model_copy(update={name: value})


def continue_encoder(
    run: RunContext,
    config: EncoderConfig,
    data: PreparedData,
    rows: Rows,
    *,
    start: Mapping[str, torch.Tensor],
    epochs: int,
    folder: Path,
) -> ContinuedEncoder:
    """Trains an encoder on from given weights; a training that was interrupted is continued.

    The encoder is built on `rows`, so graphs and counts are those of these rows; `settled_config` keeps settings that
    rows decide what they were. Encoders of mode `direct` are solved
    again on them and need no weights; those of mode `none` are rebuilt. Others train `epochs` passes over all rows
    in each phase of their fit that `continues`, with its optimiser settings.

    Args:
        run: Supplies seed, device and history settings.
        config: The encoder's settings.
        data: Prepared data that holds the rows.
        rows: All rows that it may learn from, of any split.
        start: Weights of the same encoder for the same users and items, as `encoder.safetensors` holds them.
        epochs: Passes over the rows, 0 or more.
        folder: Takes `encoder.safetensors` and which rows it was trained on; `load_encoder` reads both.

    Raises:
        RunError: If there are no rows, or the weights are of another encoder or other numbers of users and items.
    """
    if not len(rows):
        raise RunError(f"encoder '{config.name}': no rows to train on")
    view = data.trained_on(rows)
    encoder = build_encoder(run.registry.get("encoder", config.name), config, view, run.spec, run.build)
    device = run.accelerator.device
    said: dict[str, Any] = {"continued": TRAINED, "train_rows": len(rows)}
    if encoder.fit_mode == "gradient":
        load_strictly(encoder, dict(start), where=f"encoder '{config.name}': weights to go on from")
        encoder.to(device)
        said |= {"phases": _train_phases(run, encoder, config, view, epochs=epochs, folder=folder)}
    elif encoder.fit_mode == "direct":
        encoder.to(device)
        history_items = run.spec.history.max_items
        fit_directly(encoder, view, EncoderBatcher.of(encoder, view, device), history_items=history_items)
        encoder.to(device)
        said["continued"] = SOLVED
    else:
        encoder.to(device)
        said["continued"] = REBUILT
    save_tensors(folder / WEIGHTS, encoder.state_dict())
    save_trained_on(folder, data, rows)
    for checkpoint in folder.glob(CHECKPOINT.format("*")):
        checkpoint.unlink()
    n_parameters = sum(parameter.numel() for parameter in encoder.parameters())
    return ContinuedEncoder(encoder.eval(), {"n_parameters": n_parameters, **said, **encoder_facts(encoder)})


def _train_phases(
    run: RunContext, encoder: EncoderModule, config: EncoderConfig, view: PreparedData, *, epochs: int, folder: Path
) -> dict[str, Any]:
    """Trains `epochs` passes over the training rows in each phase; returns phase -> epochs and steps."""
    rows = view.rows("train")
    # Other rows, other draws: what is trained on again and again does not meet the same order each time.
    seed = derive_seed(run.spec.seed, "continued", config.name, len(rows))
    # Before the phases are made: they may draw parameters of their own.
    seed_torch(seed)
    with naming_encoder(encoder, "fit_phases"):
        phases = [phase for phase in encoder.fit_phases(config) if phase.continues]
    batcher = EncoderBatcher.of(encoder, view, run.accelerator.device)
    said: dict[str, Any] = {}
    n_steps = 0
    for phase in phases:
        title = f"continue {config.name}" if len(phases) == 1 else f"continue {config.name} {phase.name}"
        none = rows.take(np.arange(0))
        task = EncoderTask(encoder, phase, title=title, batcher=batcher, train=rows, valid=none, seed=seed)
        steps = epochs * task.steps_per_epoch
        if steps:
            settings = LoopSettings(
                max_steps=steps,
                validate_every=task.steps_per_epoch,
                patience=1,
                clip_norm=None,
                checkpoint_seconds=CHECKPOINT_SECONDS,
                seed=derive_seed(seed, "draws", title),
                selects=False,
            )
            checkpoint = folder / CHECKPOINT.format(phase.name)
            watch = _counting(run.observer, n_steps)
            train(task, settings, accelerator=run.accelerator, checkpoint=checkpoint, observer=watch)
        n_steps += steps
        said[phase.name] = {"epochs": epochs, "optimiser_steps": steps, **phase.facts}
    return said


def _counting(observer: Observer, steps_before: int) -> Observer:
    """Counts steps on through the phases."""
    return lambda step, values: observer(steps_before + step, values)


@dataclass(frozen=True)
class Length:
    """How long groups are tuned on.

    Attributes:
        epochs: Passes over the rows.
        steps: Optimiser steps, in place of passes; None = as the passes give them.
    """

    epochs: float = 1.0
    steps: int | None = None

    def __post_init__(self) -> None:
        """Refuses a length of nothing.

        Raises:
            ValueError: If passes or steps are not above 0.
        """
        if self.epochs <= 0 or (self.steps is not None and self.steps <= 0):
            raise ValueError(f"epochs and steps must be above 0, got {self.epochs} and {self.steps}")


def continue_tuning(
    model: LanguageModelRun,
    groups: Sequence[Group],
    rows: Rows,
    *,
    length: Length,
    folder: Path,
    start: Mapping[Group, Path] | None = None,
) -> dict[str, Any]:
    """Trains groups of a tuned language model on from given weights; a training that was interrupted is continued.

    Settings of the optimiser are those of the last step of the spec that trained each group; the prompt is that of the
    finished model. Groups that are not named are read and never written: they stay as they are, bit by bit.

    Args:
        model: The model with its finished steps, and encoders that are on the rows' users and items.
        groups: What trains: `projector`, `lora` or both.
        rows: Rows to train on, of any split; `tuning.max_rows` holds here too.
        length: How long.
        folder: Takes `<group>.safetensors` of what trained, and the adapter where LoRA did.
        start: Group -> file to start from, for groups whose last weights are not those of the model's finished steps.

    Returns:
        Facts for the results.

    Raises:
        RunError: If the model's tuning did not train a group, or there are no rows.
    """
    step = continued_step(model.steps, groups, length)
    if not len(rows):
        raise RunError(f"tuning of {', '.join(groups)}: no rows to train on")
    tuning = model.setup.tuning
    if tuning.max_rows is not None and tuning.max_rows < len(rows):
        seed = derive_seed(model.run.spec.seed, "continue", len(rows))
        rows = draw_whole_groups(rows, model.prepared.data.history_groups(rows), tuning.max_rows, seed)
    n_steps = length.steps or max(1, round(length.epochs * -(-len(rows) // tuning.batch_size)))
    step = replace(step, optimiser={group: _fitting(each, n_steps) for group, each in step.optimiser.items()})
    facts = train_step(model, step, "continue", folder, rows=rows, start=start)
    return {"continued": list(groups), **facts}


def continued_step(steps: Sequence[TuneStep], groups: Sequence[Group], length: Length) -> TuneStep:
    """Returns the step that trains groups on.

    Args:
        steps: The spec's steps.
        groups: What trains.
        length: How long.

    Raises:
        RunError: If no step trained a group, or the last step has no part for it.
    """
    last = {group: step for step in steps for group in step.trained}
    if missing := [group for group in groups if group not in last or group not in steps[-1].groups]:
        had = ", ".join(last) or "nothing"
        raise RunError(f"{', '.join(missing)} cannot be trained on: the run's tuning trained {had}")
    plans = {
        group: plan if group == "encoder" and group not in last else GroupPlan(trains=group in groups, start="previous")
        for group, plan in steps[-1].groups.items()
    }
    given: dict[str, Any] = {"epochs": length.epochs, "epoch_steps": None, "rows": "all"}
    if length.steps is not None:
        given |= {"epochs": 1.0, "epoch_steps": length.steps}
    optimiser = {group: last[group].optimiser[group].model_copy(update=given) for group in plans if group in groups}
    return TuneStep("continued", steps[-1].variant, plans, optimiser)


def _fitting(settings: StepConfig, n_steps: int) -> StepConfig:
    """Returns the settings with a warm-up of a tenth of the steps at most: they were chosen for a longer training."""
    asked = settings.warmup_steps if settings.warmup_ratio is None else settings.warmup_ratio * n_steps
    if asked <= LONGEST_WARMUP * n_steps:
        return settings
    return settings.model_copy(update={"warmup_ratio": None, "warmup_steps": int(LONGEST_WARMUP * n_steps)})
