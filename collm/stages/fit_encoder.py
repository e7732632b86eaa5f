"""Stage: fit one encoder or floor on the training rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel

from collm.component import BuildContext, Component, inner_components
from collm.contracts.data import SAMPLED
from collm.contracts.encoder import EncoderBatch, EncoderConfig, EncoderData, EncoderFacts, TrainRows, UnlabelledRows
from collm.data.prepared import PreparedData, Rows
from collm.engine.checkpoint import load_tensors, save_tensors
from collm.engine.device import derive_seed, seed_torch
from collm.engine.encoder_task import EncoderBatcher, encoder_logits, validation_auc
from collm.engine.fit_phases import CHECKPOINT, fit_in_phases
from collm.errors import PluginError, RunError
from collm.model.encoder import EncoderModule, completed, naming_encoder
from collm.registry import Registry
from collm.spec.contents import config_contents
from collm.spec.fingerprint import config_payload
from collm.spec.model import ResolvedSpec
from collm.stages.stage import RunContext, StageResult
from collm.stages.versions import version_of

STAGE = "fit_encoder"
WEIGHTS = "encoder.safetensors"
# Beside the weights of an encoder that was trained on from given ones: which rows of the table it was trained on.
TRAINED_ON = "trained_on.safetensors"
DIRECT_BATCH_ROWS = 65_536
# Kinds whose built component tells the content of its files.
_WITH_FILES = ("dataset", "backbone")


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
        PluginError: If the factory raises, or returns something else than an encoder module.
    """
    return build_on(component, config, encoder_data(data, spec.history.max_items), seed=spec.seed, context=context)


def build_on(
    component: Component, config: EncoderConfig, given: EncoderData, *, seed: int, context: BuildContext
) -> EncoderModule:
    """Builds an encoder on what it may see; as `build_encoder`."""
    seed_torch(derive_seed(seed, "encoder", component.name))
    origin = f"encoder '{component.name}' (plugin {component.factory.partition(':')[0].partition('.')[0]})"
    build = component.load_factory()
    with naming_encoder(None, component.factory.rpartition(":")[2], origin=origin):
        encoder = build(config, data=given, context=context)
    if not isinstance(encoder, torch.nn.Module):
        raise PluginError(
            f"encoder '{component.name}': factory returned {type(encoder).__name__}, expected a torch.nn.Module"
        )
    module = completed(encoder)
    module.origin = origin
    return module


def encoder_data(data: PreparedData, history_items: int) -> EncoderData:
    """Returns what an encoder may see of the prepared data: training rows, and of validation rows the ids alone."""
    rows, valid = data.rows("train"), data.rows("valid")
    rating = data.optional_column("rating")
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
            rating=None if rating is None else rating[rows.index].astype(np.float32, copy=False),
        ),
        history_items=history_items,
        user_ids=data.user_ids,
        item_ids=data.item_ids,
        user_attributes=data.user_attributes,
        item_attributes=data.item_attributes,
        valid=UnlabelledRows(user=valid.user, item=valid.item),
    )


def fit_encoder(run: RunContext, config: EncoderConfig, data: PreparedData, *, upstream: str) -> StageResult:
    """Fits an encoder.

    Args:
        run: Supplies seed and history settings.
        config: The encoder's settings; may be a floor's, which the spec does not name.
        data: Prepared data.
        upstream: Fingerprint of the data.

    Returns:
        The finished stage; its folder holds `encoder.safetensors`.
    """
    payload = {
        "config": config_payload(config),
        "history": run.spec.history.max_items,
        "seed": run.spec.seed,
        "data": upstream,
        "plugin": run.code("encoder", config),
        "inner": inner_payload(config, run.registry, run.build),
        "files": config_contents(config, "encoder"),
        "version": version_of("fit_encoder"),
    }
    reads_labels = "earlier-labels" in run.registry.get("encoder", config.name).needs
    if reads_labels and data.optional_column(SAMPLED) is not None:
        # Versions up to 0.2 counted drawn negatives among the earlier labels.
        payload["earlier labels"] = "without drawn negatives"

    def work(folder: Path) -> dict[str, Any]:
        encoder = build_encoder(run.registry.get("encoder", config.name), config, data, run.spec, run.build)
        encoder.to(run.accelerator.device)
        facts = _fit(run, encoder, config, data, folder) | encoder_facts(encoder)
        save_tensors(folder / WEIGHTS, encoder.state_dict())
        for checkpoint in folder.glob(CHECKPOINT.format("*")):
            checkpoint.unlink()
        return facts

    return run.stages.run(STAGE, payload, work, label=config.name)


def load_encoder(run: RunContext, stage: StageResult, config: EncoderConfig, data: PreparedData) -> EncoderModule:
    """Builds an encoder on the rows that it was trained on and loads its weights, strictly, on the processor."""
    data = trained_view(stage.folder, data)
    encoder = build_encoder(run.registry.get("encoder", config.name), config, data, run.spec, run.build)
    tensors, _ = load_tensors(stage.folder / WEIGHTS)
    load_strictly(encoder, tensors, where=str(stage.folder / WEIGHTS))
    return encoder.eval()


def save_trained_on(folder: Path, data: PreparedData, rows: Rows) -> None:
    """Writes which rows of the table an encoder was trained on, a bit for each."""
    marks = np.zeros(len(data.split_places()), dtype=bool)
    marks[rows.index] = True
    facts = {"table_rows": len(marks), "rows": len(rows)}
    save_tensors(folder / TRAINED_ON, {"rows": torch.from_numpy(np.packbits(marks))}, facts)


def trained_view(folder: Path, data: PreparedData) -> PreparedData:
    """Returns the data with the rows that `save_trained_on` named as its training split; itself where it named none.

    Raises:
        RunError: If they are rows of another table.
    """
    if not (folder / TRAINED_ON).exists():
        return data
    tensors, facts = load_tensors(folder / TRAINED_ON)
    if facts["table_rows"] > (n_rows := len(data.split_places())):
        raise RunError(f"{folder / TRAINED_ON}: speaks of {facts['table_rows']:,} rows, the data holds {n_rows:,}")
    marks = np.unpackbits(tensors["rows"].numpy(), count=facts["table_rows"])
    return data.trained_on(data.rows_at(np.flatnonzero(marks)))


def encoder_scorer(
    run: RunContext, stage: StageResult, config: EncoderConfig, data: PreparedData
) -> Callable[[Rows], np.ndarray[Any, Any]]:
    """Loads an encoder and returns what gives float32 [n] logits of rows."""
    encoder = load_encoder(run, stage, config, data).to(run.accelerator.device)
    batcher = EncoderBatcher.of(encoder, data, run.accelerator.device)
    return lambda rows: encoder_logits(encoder, batcher, rows)


def inner_payload(config: BaseModel, registry: Registry, context: BuildContext) -> list[dict[str, str]]:
    """Returns source and content hashes of every component inside a config; their settings are the config's own.

    Args:
        config: Settings that may hold other components.
        registry: Where those come from.
        context: Where their files lie.

    Raises:
        DataError: If files are missing.
    """
    payload = []
    for kind, inner in inner_components(config):
        entry = {"kind": str(kind), "name": inner.name, "plugin": registry.code_version(kind, inner.name)}
        if kind in _WITH_FILES:
            built = registry.get(kind, inner.name).load_factory()(inner, context=context)
            entry["content"] = str(built.content_hash())
        payload.append(entry)
    return payload


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
    run: RunContext, encoder: EncoderModule, config: EncoderConfig, data: PreparedData, folder: Path
) -> dict[str, Any]:
    spec, device = run.spec, run.accelerator.device
    batcher = EncoderBatcher.of(encoder, data, device)
    n_parameters = sum(parameter.numel() for parameter in encoder.parameters())
    if encoder.fit_mode == "none":
        return {"n_parameters": n_parameters}
    if encoder.fit_mode == "direct":
        fit_directly(encoder, data, batcher, history_items=spec.history.max_items)
        encoder.to(device)
        return {"n_parameters": n_parameters}
    # Before the phases are made: they may draw parameters of their own.
    seed_torch(derive_seed(spec.seed, "fit", config.name))
    title = f"{STAGE} {config.name}"
    with naming_encoder(encoder, "fit_phases"):
        phases = encoder.fit_phases(config)
    *earlier, last = fit_in_phases(
        encoder,
        phases,
        data,
        batcher=batcher,
        title=title,
        seed=spec.seed,
        folder=folder,
        accelerator=run.accelerator,
        observer=run.observer,
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


def fit_directly(encoder: EncoderModule, data: PreparedData, batcher: EncoderBatcher, *, history_items: int) -> None:
    """Fits an encoder of mode `direct` on the training rows.

    Raises:
        PluginError: If its code raises; names it.
    """
    with naming_encoder(encoder, "fit_direct"):
        encoder.fit_direct(encoder_data(data, history_items), train_batches(data, batcher))


def described(encoder: EncoderModule) -> EncoderFacts:
    """Returns what results must say of an encoder; one of a class of its own may have nothing to say."""
    describe = getattr(encoder, "describe", EncoderFacts)
    with naming_encoder(encoder, "describe"):
        found: EncoderFacts = describe()
    return found


def encoder_facts(encoder: EncoderModule) -> dict[str, Any]:
    """Returns what an encoder says of itself as facts of a stage; empty where it says nothing."""
    said = described(encoder)
    notes = {"notes": list(said.notes), "score_notes": list(said.score_notes)}
    return {**said.facts, **{key: value for key, value in notes.items() if value}}


def encoder_notes(facts: Mapping[str, Any], *, scores: bool = False) -> list[str]:
    """Returns the sentences of an encoder that results must state.

    Args:
        facts: Facts of the stage that made it.
        scores: Whether its own scores are the result.
    """
    return [*facts.get("notes", ()), *(facts.get("score_notes", ()) if scores else ())]


def train_batches(data: PreparedData, batcher: EncoderBatcher) -> Iterator[EncoderBatch]:
    """Yields all training rows in source order, as encoders that fit in one pass read them."""
    rows = data.rows("train")
    for start in range(0, len(rows), DIRECT_BATCH_ROWS):
        yield batcher(rows.take(np.arange(start, min(start + DIRECT_BATCH_ROWS, len(rows)))))
