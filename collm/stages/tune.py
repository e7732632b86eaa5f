"""Stages: the tuning steps of a language model."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from collm.contracts.encoder import of_encoder
from collm.contracts.tuning import Group, TuneStep
from collm.data.prepared import Rows
from collm.engine.assemble import save_groups, shard_frozen_weights
from collm.engine.device import derive_seed, seed_torch
from collm.engine.language_task import LanguageTask, selection_rows
from collm.engine.list_task import ListTask, list_notes, sampled_lists
from collm.engine.memory import report_memory
from collm.engine.train import LoopState, train
from collm.model.recommender import Recommender
from collm.spec.fingerprint import config_payload
from collm.stages.fit_encoder import described
from collm.stages.held_out import rows_setting, training_rows
from collm.stages.language_model import LanguageModelRun
from collm.stages.prompt_sources import SHORTENED
from collm.stages.stage import StageResult
from collm.stages.versions import version_of

logger = logging.getLogger(__name__)
CHECKPOINT = "checkpoint.safetensors"
ADAPTER_FOLDER = "adapter"
PROBE_ROWS = 4
LOOP_FIELDS = {"batch_size", "micro_batch_tokens", "prefix_cache_gb", "max_rows", "max_valid_rows"}
LOOP_FIELDS |= {"schedule", "warmup_start", "min_learning_rate", "frozen_lora_dropout", "clip_norm"}


def tune(model: LanguageModelRun) -> Iterator[StageResult]:
    """Runs the steps of a model in order, each skipped where its fingerprint is finished."""
    for number, step in enumerate(model.steps, start=1):
        name = f"tune_{number}"
        work = functools.partial(train_step, model, step, name)
        result = model.run.stages.run(name, step_payload(model, step), work, shared=True)
        model.finished.append(result)
        yield result


def step_payload(model: LanguageModelRun, step: TuneStep) -> dict[str, Any]:
    """Returns what decides the weights that a step leaves, as plain data."""
    spec, tuning = model.run.spec, model.setup.tuning
    continues = any(plan.start == "previous" for plan in step.groups.values())
    return model.base_payload(step.variant) | {
        "version": version_of("tune"),
        "step": dataclasses.asdict(step)
        | {"optimiser": {group: config_payload(settings) for group, settings in step.optimiser.items()}},
        "lora": config_payload(tuning.lora),
        "loop": {name: value for name, value in config_payload(tuning).items() if name in LOOP_FIELDS},
        **({} if tuning.loss == "bce" else {"lists": [tuning.loss, tuning.n_negatives]}),
        "select": spec.select.model_dump(mode="json"),
        "seed": spec.seed,
        "encoder": model.encoder_payload(step),
        "mapping": config_payload(spec.mapping) if "projector" in step.groups else None,
        "held_out": model.held_out if rows_setting(step) == "held-out" else None,
        "previous": model.finished[-1].fingerprint if continues else None,
    }


def train_step(
    model: LanguageModelRun,
    step: TuneStep,
    stage: str,
    folder: Path,
    *,
    rows: Rows | None = None,
    start: Mapping[Group, Path] | None = None,
) -> dict[str, Any]:
    """Trains the groups of one step and saves them; a training that was interrupted is continued.

    Args:
        model: The model with its finished steps.
        step: What trains, from where, and with which settings.
        stage: Names it in progress and messages.
        folder: Takes `<group>.safetensors` of what trained, and the adapter.
        rows: Rows to train on to the last step, without selection; None = those of the step, with the spec's selection.
        start: Group -> file of weights that it starts from, in place of what the plan says.

    Returns:
        Facts for the results.
    """
    run, trained = model.run, list(step.trained)
    seed = derive_seed(run.spec.seed, step.name)
    seed_torch(seed)
    report_memory(
        f"{stage} {step.name}",
        model.setup.backbone,
        model.setup.config,
        tuning=model.setup.tuning,
        trains_lora="lora" in trained,
        device=run.accelerator.device,
    )
    parts = model.parts(step.groups, step)
    recommender = model.assemble(dataclasses.replace(parts, files={**parts.files, **(start or {})}))
    recommender.set_trainable(trained, frozen_lora_dropout=model.setup.tuning.frozen_lora_dropout)
    task = _task(model, step, recommender, title=f"{stage} {step.name}", seed=seed, given=rows)
    schedule_notes = task.check_schedule()
    if advice := task.advice():
        logger.warning(advice)
    processes = run.stages.processes
    state = train(
        task,
        dataclasses.replace(task.loop_settings(), selects=rows is None),
        accelerator=run.accelerator,
        checkpoint=folder / CHECKPOINT,
        observer=run.observer,
        processes=processes,
    )
    probe = task.valid.batch(np.arange(min(PROBE_ROWS, len(task.valid))))
    save_groups(recommender, folder, trained, probe, step=step.name, processes=processes)
    if processes.is_main:
        if "lora" in trained:
            model.save_adapter(recommender, folder / ADAPTER_FOLDER)
        (folder / CHECKPOINT).unlink(missing_ok=True)
    facts = {"processes": processes.size, **_facts(task, state, recommender, trained)}
    given = _given_start(step, recommender)
    lists = list_notes(task.lists, model.setup.tuning.loss) if isinstance(task, ListTask) else ()
    notes = [*schedule_notes, *lists, *given.pop("notes", ())]
    return facts | given | ({"notes": notes} if notes else {})


def _given_start(step: TuneStep, recommender: Recommender) -> dict[str, Any]:
    """Returns what results must say of an encoder that starts from scratch, which no other stage says."""
    plan = step.groups.get("encoder")
    if plan is None or plan.start != "scratch":
        return {}
    facts: dict[str, Any] = {}
    notes: list[str] = []
    for name, encoder in recommender.encoders.items():
        said = described(encoder)
        facts |= {of_encoder("encoder", name): dict(said.facts)} if said.facts else {}
        notes += [*said.notes, *said.scratch_notes]
    return {**facts, **({"notes": notes} if notes else {})}


def _task(
    model: LanguageModelRun, step: TuneStep, recommender: Recommender, *, title: str, seed: int, given: Rows | None
) -> LanguageTask:
    """Encodes the rows of a step and makes its task; the mapping is calibrated before weights are split."""
    run, tuning, data = model.run, model.setup.tuning, model.prepared.data
    source = model.prompts.source(step.variant)
    if given is None:
        rows = training_rows(data, step, tuning, seed=run.spec.seed)
        valid_rows = selection_rows(data, run.spec.select.rows, max_rows=tuning.max_valid_rows, seed=run.spec.seed)
    else:
        # Nothing selects; a few rows prove that the saved weights give the trained model's scores.
        rows, valid_rows = given, given.take(np.arange(min(PROBE_ROWS, len(given))))
        source = source.on(data.trained_on(rows))
    lists = None if tuning.loss == "bce" else sampled_lists(source, rows, tuning, seed=seed)
    train_prompts = source.encode(rows) if lists is None else lists.positives
    valid_prompts = source.encode(valid_rows)
    if step.groups.get("projector") is not None and step.groups["projector"].start == "scratch":
        recommender.calibrate_projector((train_prompts if lists is None else lists).encoder_batches())
    shard_frozen_weights(recommender, run.accelerator, processes=run.stages.processes)
    rest: dict[str, Any] = {"title": title, "valid": valid_prompts, "seed": seed, "processes": run.stages.processes}
    if lists is not None:
        return ListTask(recommender, step, tuning, lists=lists, **rest)
    return LanguageTask(recommender, step, tuning, train=train_prompts, **rest)


def _facts(task: LanguageTask, state: LoopState, recommender: Recommender, trained: list[Group]) -> dict[str, Any]:
    selected = {"valid_rows": len(task.valid), "best_step": state.best_step, "best_valid_auc": state.best_value}
    return {
        "probe": recommender.probe.plain() if recommender.probe else None,
        "rows": len(task.train),
        SHORTENED: task.train.n_shortened,
        "optimiser_steps": state.step,
        **(selected if state.best_value is not None else {}),
        "rows_seen": state.rows_seen,
        "tokens": state.tokens,
        "train_seconds": round(state.seconds, 2),
        "trained_parameters": {g: sum(p.numel() for p in recommender.parameter_groups()[g].values()) for g in trained},
        "course" if state.best_value is None else "curve": state.curve,
    }
