"""Stage: fit one encoder or floor on the training rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from collm.component import BuildContext, Component
from collm.contracts.encoder import EncoderBatch, EncoderConfig, EncoderData, TrainRows
from collm.data.prepared import PreparedData
from collm.engine.checkpoint import load_tensors, save_tensors
from collm.engine.encoder_task import EncoderBatcher, encoder_logits, validation_auc
from collm.engine.fit_phases import CHECKPOINT, fit_in_phases
from collm.engine.seeding import derive_seed, seed_torch
from collm.engine.train import Observer
from collm.errors import PluginError, RunError
from collm.model.encoder import EncoderModule
from collm.registry import Registry
from collm.spec.contents import config_contents
from collm.spec.fingerprint import config_payload
from collm.spec.model import ResolvedSpec
from collm.stages.inner_components import inner_payload
from collm.stages.stage import StageResult, StageRunner
from collm.stages.versions import version_of

WEIGHTS = "encoder.safetensors"
DIRECT_BATCH_ROWS = 65_536


def default_config(component: Component) -> EncoderConfig:
    """Returns an encoder's settings with every default, as floors are run."""
    config = component.config(name=component.name)
    assert isinstance(config, EncoderConfig)
    return config


def build_encoder(
    component: Component, config: EncoderConfig, data: PreparedData, spec: ResolvedSpec, context: BuildContext
) -> EncoderModule:
    """Builds an encoder with freshly initialised weights, seeded by the run's seed and the encoder's name.

    Raises:
        PluginError: If the factory returns something else than an encoder module.
    """
    seed_torch(derive_seed(spec.seed, "encoder", component.name))
    encoder = component.load_factory()(config, data=encoder_data(data, spec.history.max_items), context=context)
    if not isinstance(encoder, torch.nn.Module):
        raise PluginError(
            f"encoder '{component.name}': factory returned {type(encoder).__name__}, expected a torch.nn.Module"
        )
    module: EncoderModule = encoder  # type: ignore[assignment]
    if "vectors" in module.gives:
        # The mapping decides how many tokens a vector becomes; an encoder that gives tokens itself decides alone.
        module.tokens_per_slot = (spec.mapping.tokens, spec.mapping.tokens)
    return module


def encoder_data(data: PreparedData, history_items: int) -> EncoderData:
    """Returns what an encoder may see of the prepared data: training rows only."""
    rows = data.rows("train")
    return EncoderData(
        n_users=data.n_users,
        n_items=data.n_items,
        titles=data.titles,
        train=TrainRows(
            user=np.asarray(rows.user, dtype=np.int64),
            item=np.asarray(rows.item, dtype=np.int64),
            label=rows.label,
            timestamp=rows.timestamp,
            row=rows.row,
        ),
        history_items=history_items,
    )


def fit_encoder(
    spec: ResolvedSpec,
    config: EncoderConfig,
    data: PreparedData,
    *,
    upstream: str,
    registry: Registry,
    runner: StageRunner,
    context: BuildContext,
    accelerator: Accelerator,
    observer: Observer,
    stage: str = "fit_encoder",
) -> StageResult:
    """Fits an encoder.

    Args:
        spec: Supplies seed and history settings.
        config: The encoder's settings; may be a floor's, which the spec does not name.
        data: Prepared data.
        upstream: Fingerprint of the data.
        registry: Where the encoder comes from.
        runner: Runs or skips the stage.
        context: Cache folder.
        accelerator: Device and backward pass.
        observer: Receives logged numbers.
        stage: Stage name.

    Returns:
        The finished stage; its folder holds `encoder.safetensors`.
    """
    component = registry.get("encoder", config.name)
    payload = {
        "config": config_payload(config),
        "history": spec.history.max_items,
        "seed": spec.seed,
        "data": upstream,
        "plugin": registry.code_version("encoder", config.name),
        "inner": inner_payload(config, registry, context),
        "files": config_contents(config, "encoder"),
        "version": version_of("fit_encoder"),
    }

    def work(folder: Path) -> dict[str, Any]:
        encoder = build_encoder(component, config, data, spec, context)
        encoder.to(accelerator.device)
        facts = _fit(
            encoder, config, data, spec, folder=folder, accelerator=accelerator, observer=observer, stage=stage
        )
        save_tensors(folder / WEIGHTS, encoder.state_dict())
        for checkpoint in folder.glob(CHECKPOINT.format("*")):
            checkpoint.unlink()
        return facts

    return runner.run(stage, payload, work, label=config.name)


def load_encoder(
    stage: StageResult,
    config: EncoderConfig,
    data: PreparedData,
    spec: ResolvedSpec,
    *,
    registry: Registry,
    context: BuildContext,
) -> EncoderModule:
    """Builds an encoder and loads its fitted weights, strictly, on the processor."""
    encoder = build_encoder(registry.get("encoder", config.name), config, data, spec, context)
    tensors, _ = load_tensors(stage.folder / WEIGHTS)
    load_strictly(encoder, tensors, where=str(stage.folder / WEIGHTS))
    return encoder.eval()


def load_strictly(module: torch.nn.Module, tensors: dict[str, torch.Tensor], *, where: str) -> None:
    """Loads a state whose names and shapes must be the module's.

    Raises:
        RunError: If a name is missing or unexpected, or a shape differs.
    """
    try:
        module.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise RunError(f"{where}: weights of another model: {error}") from error


def _fit(
    encoder: EncoderModule,
    config: EncoderConfig,
    data: PreparedData,
    spec: ResolvedSpec,
    *,
    folder: Path,
    accelerator: Accelerator,
    observer: Observer,
    stage: str,
) -> dict[str, Any]:
    batcher = EncoderBatcher.of(encoder, data, accelerator.device)
    n_parameters = sum(parameter.numel() for parameter in encoder.parameters())
    if encoder.fit_mode == "none":
        return {"n_parameters": n_parameters}
    if encoder.fit_mode == "direct":
        encoder.fit_direct(encoder_data(data, spec.history.max_items), train_batches(data, batcher))
        encoder.to(accelerator.device)
        return {"n_parameters": n_parameters}
    # Before the phases are made: they may draw parameters of their own.
    seed_torch(derive_seed(spec.seed, "fit", config.name))
    title = f"{stage} {config.name}"
    *earlier, last = fit_in_phases(
        encoder,
        encoder.fit_phases(config),
        data,
        batcher=batcher,
        title=title,
        seed=spec.seed,
        folder=folder,
        accelerator=accelerator,
        observer=observer,
    )
    check = validation_auc(data.rows("valid").label, encoder_logits(encoder, batcher, data.rows("valid")), what=title)
    facts: dict[str, Any] = {
        "n_parameters": n_parameters,
        "valid_auc_reloaded": check,
        "train_rows": len(data.rows("train")),
    }
    if earlier:
        facts["earlier_phases"] = {course.name: course.facts() | {"seconds": course.seconds} for course in earlier}
    return facts | last.facts()


def train_batches(data: PreparedData, batcher: EncoderBatcher) -> Iterator[EncoderBatch]:
    """Yields all training rows in source order, as encoders that fit in one pass read them."""
    rows = data.rows("train")
    for start in range(0, len(rows), DIRECT_BATCH_ROWS):
        yield batcher(rows.take(np.arange(start, min(start + DIRECT_BATCH_ROWS, len(rows)))))
