"""Writes a finished run as plain files: adapter, merged model, mapping, encoder, vectors; proven on probe rows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
import yaml
from torch import nn
from transformers import AutoModelForCausalLM

import collm
from collm.contracts.backbone import Dtype
from collm.contracts.encoder import Side, of_encoder
from collm.data.pairs import pair_rows
from collm.data.prepared import PreparedData, Rows
from collm.engine.checkpoint import load_tensors, save_tensors
from collm.engine.device import DTYPES
from collm.engine.encoder_task import EncoderBatcher
from collm.engine.language_task import recommender_logits
from collm.errors import RunError, UsageError
from collm.model.adapter import save_adapter
from collm.model.encoder import EncoderModule, naming_encoder
from collm.model.parameters import adapted_modules, load_strictly, merge_lora
from collm.model.recommender import Recommender
from collm.runs.store import write_atomically
from collm.stages.score_tables import probabilities
from collm.trained.model import TrainedModel
from collm.trained.model_card import ScriptCheck, hub_name, model_card
from collm.trained.standalone import (
    SCRIPT,
    history_vectors,
    mapping_card,
    prompt_card,
    script_check,
    script_fault,
    word_columns,
    write_rows,
    write_script,
    write_tables,
)

Array = np.ndarray[Any, Any]
PROBE_ROWS = 64
# Largest difference of probabilities that passes: rounding of the merged weights, by their number format.
GAPS: dict[Dtype, float] = {"float32": 1e-4, "bfloat16": 0.05, "float16": 0.01}
ROWS_AT_ONCE = 8_192
PARTIAL = ".partial"
MAPPING, ENCODER = "mapping.safetensors", "encoder.safetensors"


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: Where it lies.
        merged_modules: Adapted modules that were merged.
        probe_rows: Rows that both models scored.
        largest_gap: Largest difference of their probabilities.
        allowed_gap: What would have been refused.
        vectors: What `vectors.safetensors` holds, by name; a sentence where it holds nothing.
        script: How `score.py`, which needs no collm, compares with the run.
    """

    folder: Path
    merged_modules: int
    probe_rows: int
    largest_gap: float
    allowed_gap: float
    vectors: dict[str, str]
    script: ScriptCheck


def export_run(
    model: TrainedModel, folder: Path, *, dtype: Dtype | None = None, max_gap: float | None = None
) -> Exported:
    """Exports a finished run with a language model.

    Args:
        model: The run.
        folder: Where to write; must not exist. It appears only when the export has passed its check.
        dtype: Number format of the merged weights; None = the spec's.
        max_gap: Largest difference of probabilities between merged and adapted model on the probe rows; None = by
            dtype (`GAPS`).

    Raises:
        UsageError: If the folder exists or the run has no language model.
        RunError: If the merged model scores otherwise than the adapted one, or the backbone cannot be written.
    """
    if folder.exists():
        raise UsageError(f"{folder}: exists already; give a new folder")
    if model.language is None or model.spec.backbone is None:
        raise UsageError(f"{model.path}: the encoder alone recommends in this run; there is no language model to merge")
    chosen: Dtype = dtype or model.spec.backbone.dtype
    allowed = GAPS[chosen] if max_gap is None else max_gap
    partial = folder.with_name(folder.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        exported = _write(model, partial, folder, chosen, allowed)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return exported


def _write(model: TrainedModel, partial: Path, folder: Path, dtype: Dtype, allowed: float) -> Exported:
    assert model.language is not None and model.spec.backbone is not None
    recommender = model.language.recommender(dtype)
    data, rows = _probe(model)
    logits = _logits(model, recommender, data, rows)
    before = probabilities(logits)
    if adapted_modules(recommender.lm):
        # An export is given away: it names the model beneath as the hub does, and not where it lies on this machine.
        base_weights = model.language.setup.backbone.content_hash()
        base_name = hub_name(model.spec.backbone) or model.spec.backbone.name
        save_adapter(recommender.lm, partial / "adapter", base_name=base_name, base_weights=base_weights)
    n_merged = merge_lora(recommender.lm)
    (partial / "model").mkdir(parents=True)
    _save_model(model, recommender, partial / "model")
    vectors = _save_parts(model, recommender, partial)
    after = probabilities(_logits(model, _reload(recommender, partial, dtype), data, rows))
    gap = float(np.abs(before - after).max())
    if not gap <= allowed:
        raise RunError(
            f"{folder}: refused: on {len(before)} probe rows the merged model's probabilities differ from the adapted "
            f"model's by up to {gap:.2g}, allowed is {allowed:.2g}; use --dtype float32, or allow more (--max-gap)"
        )
    card = _card(model, recommender, dtype)
    _write_json(partial / "collm.json", card)
    check = _write_script(model, recommender, partial, rows, logits, allowed)
    exported = Exported(folder, n_merged, len(before), gap, allowed, vectors, check)
    parity = {"probe_rows": len(before), "largest_gap": gap, "allowed_gap": allowed, "score_py": asdict(check)}
    _write_json(partial / "collm.json", {**card, "vectors": vectors, "parity": parity})
    spec = yaml.safe_dump(model.spec.plain(locations=False), sort_keys=False, allow_unicode=True)
    write_atomically(partial / "spec.yaml", spec)
    per_row = [slot["name"] for slot in card["prompt"]["slots"].values() if slot["by"] == "probe"]
    readme = model_card(model, check, per_row=per_row)
    write_atomically(partial / "README.md", readme)
    return exported


def _write_script(
    model: TrainedModel, recommender: Recommender, partial: Path, rows: Rows, logits: Array, allowed: float
) -> ScriptCheck:
    """Writes what scores without collm, and takes `score.py` away again where it cannot, or gives other scores."""
    write_tables(model, partial)
    written = write_rows(model, recommender, partial, rows, logits)
    if fault := script_fault(model):
        return ScriptCheck(0, 0.0, fault)
    write_script(partial)
    check = script_check(partial, written, allowed)
    if check.fault:
        (partial / SCRIPT).unlink()
    return check


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_atomically(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _probe(model: TrainedModel) -> tuple[PreparedData, Rows]:
    """Rows that the run evaluated, with the histories that they had."""
    split = model.spec.evaluate.splits[-1]
    rows = model.data.rows(split)
    return model.data, rows.take(np.linspace(0, len(rows) - 1, min(PROBE_ROWS, len(rows))).astype(np.int64))


def _logits(model: TrainedModel, recommender: Recommender, data: PreparedData, rows: Rows) -> Array:
    assert model.language is not None and model.spec.tuning is not None
    prompts = model.language.source(data).encode(rows)
    return recommender_logits(recommender, prompts, max_tokens=model.spec.tuning.micro_batch_tokens)


def _save_model(model: TrainedModel, recommender: Recommender, folder: Path) -> None:
    assert model.language is not None
    tokenizer = model.language.setup.backbone.tokenizer()
    if not hasattr(recommender.lm, "save_pretrained") or not hasattr(tokenizer, "save"):
        raise RunError("this backbone cannot be written as a model folder; only Hugging Face models can be exported")
    recommender.lm.save_pretrained(folder, safe_serialization=True)  # type: ignore[operator]
    tokenizer.save(folder)


def _save_parts(model: TrainedModel, recommender: Recommender, folder: Path) -> dict[str, str]:
    _with_words(model, model.data.user_table(), "user").write_parquet(folder / "users.parquet")
    _with_words(model, model.data.item_table(), "item").write_parquet(folder / "items.parquet")
    for parts, name in ((recommender.projectors, MAPPING), (recommender.encoders, ENCODER)):
        if state := _state(parts):
            save_tensors(folder / name, state)
    if not recommender.encoders:
        return {"none": "a text-only run has no vectors"}
    tensors: dict[str, torch.Tensor] = {}
    notes: dict[str, str] = {}
    for name, encoder in recommender.encoders.items():
        found, said = _vectors(model, encoder, name)
        tensors |= found
        notes |= said
    tensors |= history_vectors(model, recommender)
    save_tensors(folder / "vectors.safetensors", tensors)
    return notes


def _with_words(model: TrainedModel, table: pl.DataFrame, side: Side) -> pl.DataFrame:
    """Adds the words that encoders write into the slots of users or items, a column per encoder that does."""
    columns = word_columns(model, side, table.height)
    return table.with_columns(pl.Series(name, words, dtype=pl.String) for name, words in columns.items())


def _state(parts: Mapping[str, nn.Module]) -> dict[str, torch.Tensor]:
    """Returns all tensors of mappings or encoders; names begin with the encoder's where there are several."""
    return {
        f"{name}.{key}" if name else key: tensor
        for name, part in parts.items()
        for key, tensor in part.state_dict().items()
    }


@torch.no_grad()
def _vectors(model: TrainedModel, encoder: EncoderModule, name: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Returns an encoder's user and item vectors by dense id as of the end of the data, and what they are."""
    data, (n_user_tokens, n_item_tokens) = model.data, encoder.tokens_per_slot
    tensors, notes = {}, {}
    of_user, of_item = of_encoder("user", name), of_encoder("item", name)
    if n_item_tokens:
        items = _encode(model, encoder, np.zeros(data.n_items + 1, np.int64), np.arange(data.n_items + 1))[1]
        tensors[of_item] = items
        notes[of_item] = f"float32 {list(items.shape)}, row = dense id of items.parquet, row 0 = unknown"
    if not n_user_tokens:
        return tensors, notes
    if encoder.user_depends_on_item:
        said = "none: this encoder's user vector depends on the target item; run encoder.safetensors"
        return tensors, {**notes, of_user: said}
    users = np.arange(data.n_users + 1)
    found = _encode(model, encoder, users, np.zeros(data.n_users + 1, np.int64))[0]
    when = " with the history at the end of the data" if encoder.history_items else ""
    shape = list(found.shape)
    notes[of_user] = f"float32 {shape}{when}, row = dense id of users.parquet, row 0 = unknown"
    return {**tensors, of_user: found}, notes


def _encode(model: TrainedModel, encoder: EncoderModule, user: Any, item: Any) -> tuple[torch.Tensor, torch.Tensor]:
    data, rows = pair_rows(model.data, user, item, None)
    batcher = EncoderBatcher.of(encoder, data, model.device)
    users, items = [], []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        batch = batcher(rows.take(np.arange(start, min(start + ROWS_AT_ONCE, len(rows)))))
        with naming_encoder(encoder, "encode"):
            pair = encoder.encode(batch)
        users.append(pair.user.float().cpu())
        items.append(pair.item.float().cpu())
    return torch.cat(users).contiguous(), torch.cat(items).contiguous()


def _reload(recommender: Recommender, folder: Path, dtype: Dtype) -> Recommender:
    """Builds the recommender from the exported files alone, encoder and mapping included."""
    config: Any = recommender.lm.config
    lm = AutoModelForCausalLM.from_pretrained(
        folder / "model",
        dtype=DTYPES[dtype],
        attn_implementation="eager" if config._attn_implementation == "eager" else "sdpa",
        local_files_only=True,
        trust_remote_code=False,
    )
    for parts, file in ((recommender.projectors, MAPPING), (recommender.encoders, ENCODER)):
        if own := _state(parts):
            load_strictly(own, load_tensors(folder / file)[0], what=file)
    fresh = Recommender(
        lm.requires_grad_(False),
        answer=recommender.answer,
        readout=recommender.readout,
        encoders=recommender.encoders,
        projectors=recommender.projectors,
    )
    fresh.share_prefixes(recommender.shares_prefixes)
    return fresh.to(next(recommender.parameters()).device).eval()


def _card(model: TrainedModel, recommender: Recommender, dtype: Dtype) -> dict[str, Any]:
    assert model.language is not None
    answer, settings = model.language.setup.backbone.tokenizer().answer, model.spec.plain(locations=False)
    return {
        "schema": 1,
        "collm": collm.__version__,
        "run": model.path.name,
        "spec_hash": model.results.spec_hash,
        "dtype": dtype,
        "answer": {
            "readout": model.spec.answer.readout,
            "positive": {"word": answer.positive_word, "id": answer.positive},
            "negative": {"word": answer.negative_word, "id": answer.negative},
        },
        "prompt": prompt_card(model, recommender),
        "encoder": None,
        **{section: settings[section] for section in ("encoder", "encoders") if section in settings},
        "mapping": mapping_card(recommender),
    }
