"""Every hook that a plugin may implement. A plugin imports `hookimpl` from here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pluggy

from collm.component import Component

PROJECT = "collm"
ENTRY_POINT_GROUP = "collm"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_datasets() -> Sequence[Component]:  # type: ignore[empty-body]
    """Returns the dataset components of this plugin."""


@hookspec
def register_encoders() -> Sequence[Component]:  # type: ignore[empty-body]
    """Returns the encoder components (classic recommenders and floors) of this plugin."""


@hookspec
def register_backbones() -> Sequence[Component]:  # type: ignore[empty-body]
    """Returns the language-model backbones of this plugin."""


@hookspec
def register_tuning_strategies() -> Sequence[Component]:  # type: ignore[empty-body]
    """Returns the tuning strategies of this plugin."""


@hookspec
def register_prompts() -> Sequence[Component]:  # type: ignore[empty-body]
    """Returns the prompt templates of this plugin."""


@hookspec
def register_metrics() -> Sequence[Component]:  # type: ignore[empty-body]
    """Returns the metrics of this plugin."""


@hookspec
def register_samplers() -> Sequence[Component]:  # type: ignore[empty-body]
    """Returns the samplers of this plugin, which choose the next point of a study."""


@hookspec
def register_pruners() -> Sequence[Component]:  # type: ignore[empty-body]
    """Returns the pruners of this plugin, which stop hopeless trials of a study."""


@hookspec
def run_started(run_dir: Path, spec: Mapping[str, Any]) -> None:
    """Called once when a run begins or continues.

    Args:
        run_dir: The run folder.
        spec: The resolved spec as plain data.
    """


@hookspec
def stage_finished(run_dir: Path, stage: str, seconds: float, reused: bool) -> None:
    """Called after each stage.

    Args:
        run_dir: The run folder.
        stage: Stage name, e.g. `fit_encoder` or `tune_1`.
        seconds: Wall time of this stage in this process, near 0 when reused.
        reused: Whether a finished stage with the same fingerprint was taken instead.
    """


@hookspec
def step_logged(run_dir: Path, stage: str, step: int, values: Mapping[str, float]) -> None:
    """Called whenever the training loop logs.

    Args:
        run_dir: The run folder.
        stage: Stage name.
        step: Optimiser steps taken so far in this stage.
        values: Logged numbers by name, e.g. `loss`, `learning_rate`, `valid_auc`.
    """


@hookspec
def run_finished(run_dir: Path, results: Mapping[str, Any]) -> None:
    """Called once after `done` is written.

    Args:
        run_dir: The run folder.
        results: Content of `results.json`.
    """


REGISTER_HOOKS: Mapping[str, str] = {
    "dataset": "register_datasets",
    "encoder": "register_encoders",
    "backbone": "register_backbones",
    "tuning": "register_tuning_strategies",
    "prompt": "register_prompts",
    "metric": "register_metrics",
    "sampler": "register_samplers",
    "pruner": "register_pruners",
}
