"""Stages of tuning steps in place of a finished run's: their groups were trained on, together, on given rows."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collm.contracts.tuning import Group, TuneStep
from collm.data.prepared import Rows
from collm.stages.continued import Length, continue_tuning, rows_digest
from collm.stages.language_model import LanguageModelRun
from collm.stages.stage import StageResult
from collm.stages.versions import version_of


@dataclass(frozen=True)
class _Step:
    """One step whose stage is replaced.

    Attributes:
        own: Groups that the plan trains in it; its folder holds a file for each.
        before: The stage that it replaces.
        first: The stage that trained the groups; None = this one does.
    """

    own: Sequence[Group]
    before: StageResult
    first: StageResult | None


def retuned_steps(model: LanguageModelRun, groups: Sequence[Group], rows: Rows, length: Length) -> list[StageResult]:
    """Trains groups on, all in one training; each step that trained one of them last gets a stage with its new weights.

    Args:
        model: The model with its finished steps, and the encoder that the groups are to fit.
        groups: What trains, of what the steps trained.
        rows: Rows to train on.
        length: How long.

    Returns:
        The stages of all steps, in order.
    """
    found = list(model.finished)
    last = {group: n for n, step in enumerate(model.steps) for group in step.trained}
    trained = retuned_groups(model.steps, groups)
    first: StageResult | None = None
    for number in sorted({last[group] for group in trained}):
        payload = {
            "continued": trained,
            "number": number,
            "model": model.fingerprint_payload(),
            "epochs": length.epochs,
            "steps": length.steps,
            "rows": rows_digest(rows),
            "seed": model.run.spec.seed,
            "version": version_of("update"),
        }
        own = list(model.steps[number].trained)
        step = _Step(own, found[number], first)
        work = functools.partial(_work, model, trained, rows, length, step)
        result = model.run.stages.run(found[number].name, payload, work, shared=True)
        found[number], first = result, first or result
    return found


def retuned_groups(steps: Sequence[TuneStep], groups: Sequence[Group]) -> list[Group]:
    """Returns those of the groups that steps trained and the finished model has."""
    tuned = {group for step in steps for group in step.trained}
    return [group for group in steps[-1].groups if group in groups and group in tuned]


def _work(
    model: LanguageModelRun, groups: Sequence[Group], rows: Rows, length: Length, step: _Step, folder: Path
) -> dict[str, Any]:
    """Trains where no stage has yet, and copies the files of the step's other groups."""
    facts: dict[str, Any] = {}
    if step.first is None:
        facts = continue_tuning(model, groups, rows, length=length, folder=folder)
    else:
        n_rows = step.first.facts["rows"]
        facts = {"continued": list(groups), "trained_in": step.first.name, "rows": n_rows, "optimiser_steps": 0}
    if model.run.stages.processes.is_main:
        for group in step.own:
            if group not in groups:
                _copy(group, step.before.folder, folder)
            elif step.first is not None:
                _copy(group, step.first.folder, folder)
    return facts


def _copy(group: Group, source: Path, folder: Path) -> None:
    shutil.copyfile(source / f"{group}.safetensors", folder / f"{group}.safetensors")
    if group == "lora" and (source / "adapter").is_dir():
        shutil.copytree(source / "adapter", folder / "adapter", dirs_exist_ok=True)
