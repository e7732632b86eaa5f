"""Writes a finished run as plain files: adapter, merged model, mapping, encoder, vectors; proven on probe rows."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

import collm
from collm.contracts.backbone import Dtype
from collm.data.pairs import pair_rows
from collm.data.prepared import PreparedData
from collm.engine.checkpoint import load_tensors, save_tensors
from collm.engine.device import DTYPES
from collm.engine.encoder_task import EncoderBatcher
from collm.engine.language_task import recommender_logits
from collm.errors import RunError, UsageError
from collm.model.encoder import naming_encoder
from collm.model.parameters import adapted_modules, merge_lora
from collm.model.recommender import Recommender
from collm.runs.store import write_atomically
from collm.stages.evaluate import probabilities
from collm.trained.model import TrainedModel

PROBE_ROWS = 64
# Largest difference of probabilities that passes: rounding of the merged weights, by their number format.
GAPS: dict[Dtype, float] = {"float32": 1e-4, "bfloat16": 0.05, "float16": 0.01}
ROWS_AT_ONCE = 8_192
PARTIAL = ".partial"


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
    """

    folder: Path
    merged_modules: int
    probe_rows: int
    largest_gap: float
    allowed_gap: float
    vectors: dict[str, str]


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
    assert model.language is not None
    recommender = model.language.recommender(dtype)
    data, rows = _probe(model)
    before = _score(model, recommender, data, rows)
    if adapted_modules(recommender.lm):
        model.language.save_adapter(recommender, partial / "adapter")
    n_merged = merge_lora(recommender.lm)
    (partial / "model").mkdir(parents=True)
    _save_model(model, recommender, partial / "model")
    vectors = _save_parts(model, recommender, partial)
    gap = float(np.abs(before - _score(model, _reload(recommender, partial, dtype), data, rows)).max())
    if not gap <= allowed:
        raise RunError(
            f"{folder}: refused: on {len(before)} probe rows the merged model's probabilities differ from the adapted "
            f"model's by up to {gap:.2g}, allowed is {allowed:.2g}; use --dtype float32, or allow more (--max-gap)"
        )
    exported = Exported(folder, n_merged, len(before), gap, allowed, vectors)
    write_atomically(
        partial / "collm.json", json.dumps(_card(model, exported, dtype), indent=2, ensure_ascii=False) + "\n"
    )
    return exported


def _probe(model: TrainedModel) -> tuple[PreparedData, Any]:
    """Rows that the run evaluated, with the histories that they had."""
    split = model.spec.evaluate.splits[-1]
    rows = model.data.rows(split)
    return model.data, rows.take(np.linspace(0, len(rows) - 1, min(PROBE_ROWS, len(rows))).astype(np.int64))


def _score(model: TrainedModel, recommender: Recommender, data: PreparedData, rows: Any) -> np.ndarray[Any, Any]:
    assert model.language is not None and model.spec.tuning is not None
    prompts = model.language.source(data).encode(rows)
    return probabilities(recommender_logits(recommender, prompts, max_tokens=model.spec.tuning.micro_batch_tokens))


def _save_model(model: TrainedModel, recommender: Recommender, folder: Path) -> None:
    assert model.language is not None
    tokenizer = model.language.setup.backbone.tokenizer()
    if not hasattr(recommender.lm, "save_pretrained") or not hasattr(tokenizer, "save"):
        raise RunError("this backbone cannot be written as a model folder; only Hugging Face models can be exported")
    recommender.lm.save_pretrained(folder, safe_serialization=True)  # type: ignore[operator]
    tokenizer.save(folder)


def _save_parts(model: TrainedModel, recommender: Recommender, folder: Path) -> dict[str, str]:
    model.data.user_table().write_parquet(folder / "users.parquet")
    model.data.item_table().write_parquet(folder / "items.parquet")
    if recommender.projector is not None:
        save_tensors(folder / "mapping.safetensors", dict(recommender.projector.state_dict()))
    if recommender.encoder is None:
        return {"none": "a text-only run has no vectors"}
    save_tensors(folder / "encoder.safetensors", dict(recommender.encoder.state_dict()))
    tensors, notes = _vectors(model, recommender)
    if tensors:
        save_tensors(folder / "vectors.safetensors", tensors)
    return notes


@torch.no_grad()
def _vectors(model: TrainedModel, recommender: Recommender) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Returns user and item vectors by dense id as of the end of the data, and what they are."""
    encoder = recommender.encoder
    assert encoder is not None
    data = model.data
    device = next(recommender.parameters()).device
    items = _encode(model, recommender, np.zeros(data.n_items + 1, np.int64), np.arange(data.n_items + 1), device)[1]
    tensors = {"item": items}
    notes = {"item": f"float32 {list(items.shape)}, row = dense id of items.parquet, row 0 = unknown"}
    if encoder.user_depends_on_item:
        notes["user"] = "none: this encoder's user vector depends on the target item; run encoder.safetensors"
        return tensors, notes
    users = np.arange(data.n_users + 1)
    tensors["user"] = _encode(model, recommender, users, np.zeros(data.n_users + 1, np.int64), device)[0]
    when = " with the history at the end of the data" if encoder.history_items else ""
    shape = list(tensors["user"].shape)
    notes["user"] = f"float32 {shape}{when}, row = dense id of users.parquet, row 0 = unknown"
    return tensors, notes


def _encode(
    model: TrainedModel, recommender: Recommender, user: Any, item: Any, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    encoder = recommender.encoder
    assert encoder is not None
    data, rows = pair_rows(model.data, user, item, None)
    batcher = EncoderBatcher.of(encoder, data, device)
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
    for part, name in ((recommender.projector, "mapping"), (recommender.encoder, "encoder")):
        if part is not None:
            part.load_state_dict(load_tensors(folder / f"{name}.safetensors")[0], strict=True)
    fresh = Recommender(
        lm.requires_grad_(False),
        answer=recommender.answer,
        readout=recommender.readout,
        encoder=recommender.encoder,
        projector=recommender.projector,
    )
    fresh.share_prefixes(recommender.shares_prefixes)
    return fresh.to(next(recommender.parameters()).device).eval()


def _card(model: TrainedModel, exported: Exported, dtype: Dtype) -> dict[str, Any]:
    assert model.language is not None and model.spec.prompt is not None
    tokenizer = model.language.setup.backbone.tokenizer()
    answer, frame = tokenizer.answer, getattr(tokenizer, "chat", None)
    chat = {} if frame is None else {"chat": asdict(frame)}
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
        "prompt": {"name": model.spec.prompt.name, "segments": model.language.wording(), **chat},
        "encoder": model.spec.encoder.model_dump(mode="json") if model.spec.encoder else None,
        "vectors": exported.vectors,
        "parity": {
            "probe_rows": exported.probe_rows,
            "largest_gap": exported.largest_gap,
            "allowed_gap": exported.allowed_gap,
        },
    }
