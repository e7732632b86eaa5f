"""What an export needs to score without collm: the prompt as data, ids and titles as CSV, rows of the run, a script."""

from __future__ import annotations

import importlib.resources
import json
import runpy
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import torch

from collm.contracts.backbone import ChatFrame
from collm.contracts.encoder import EncoderBatch, Side, of_encoder
from collm.contracts.prompt import (
    TITLE_SLOTS,
    DislikedTitles,
    HistoryTitles,
    PromptTemplate,
    RatedTitles,
    Slot,
    TargetTitle,
    Text,
    Variant,
)
from collm.data.prepared import Rows
from collm.engine.checkpoint import save_tensors
from collm.engine.encoder_task import EncoderBatcher
from collm.model.encoder import EncoderModule, naming_encoder, vectors_per_slot
from collm.model.mapping import Projector, items_alone
from collm.model.recommender import Recommender
from collm.prompt.encode import PromptEncoder
from collm.prompt.template import clean_title
from collm.trained.listed import lists_card, lists_fault, past_of
from collm.trained.model import TrainedModel
from collm.trained.model_card import ScriptCheck
from collm.visible import visible

Array = np.ndarray[Any, Any]
SCRIPT, ROWS = "score.py", "probe.jsonl"
# Rows that `score.py` scores before an export appears; each is one forward pass.
CHECKED_ROWS = 8
_MLP_TENSORS = ("0.weight", "0.bias", "2.weight", "2.bias")


def template_text(template: PromptTemplate, variant: Variant) -> str:
    """Returns a variant as text with named fields, as `string.Formatter` reads it; braces of its words are doubled."""
    words: list[str] = []
    for segment in template.segments(variant):
        match segment:
            case Text(text=text):
                words.append(text.replace("{", "{{").replace("}", "}}"))
            case HistoryTitles():
                words.append("{history}")
            case DislikedTitles() | RatedTitles():
                words.append(f"{{{segment.shows}}}")
            case TargetTitle():
                words.append("{target}")
            case Slot():
                words.append(f"{{{segment.field}}}")
    return "".join(words)


def prompt_card(model: TrainedModel, recommender: Recommender) -> dict[str, Any]:
    """Returns all that builds the prompt of a run with a language model, as plain data for `collm.json`."""
    assert model.language is not None and model.spec.prompt is not None
    language, setup = model.language, model.language.setup
    template, variant = setup.template, setup.strategy.variant
    encoder: PromptEncoder = language.source(model.data).prompt_encoder
    tokenizer = setup.backbone.tokenizer()
    chat: ChatFrame | None = getattr(tokenizer, "chat", None)
    anchor, anchor_tokens = getattr(tokenizer, "anchor", ("", 0))
    slots = template.slots() if variant == "hybrid" else ()
    return {
        "name": model.spec.prompt.name,
        "segments": language.wording(),
        **({"chat": asdict(chat)} if chat else {}),
        "template": template_text(template, variant),
        "title_open": template.title_open,
        "title_close": template.title_close,
        "title_join": template.title_join,
        "empty_history": template.empty_history,
        "strip_history_titles": template.strip_history_titles,
        "quote_target": template.quote_target,
        "slot_join": template.slot_join,
        "history_items": model.spec.history.n_liked,
        **lists_card(model, template, variant),
        "max_tokens": encoder.max_tokens,
        "before_ids": list(encoder.before_ids),
        "after_ids": list(chat.after) if chat else [],
        "opening": encoder.opening,
        "anchor": anchor,
        "anchor_tokens": anchor_tokens,
        "tokenizer_options": {"add_special_tokens": False, "split_special_tokens": True},
        "slots": {
            slot.field: slot_card(model, recommender, slot)
            for slot in slots
            if not language.encoders[slot.encoder].gives_words
        },
    }


def slot_card(model: TrainedModel, recommender: Recommender, slot: Slot) -> dict[str, str]:
    """Returns where the vectors of a slot lie in an export.

    Returns:
        `file` and `vectors`, the name of the tensor in it; `by`, what its rows belong to; `mapping`, which of
        `collm.json` makes token embeddings of them.
    """
    per_row = _depends_on_row(model, slot)
    side = "item" if slot.kind in TITLE_SLOTS else slot.kind
    shared = of_encoder(side, slot.encoder)
    own = slot.kind in TITLE_SLOTS and reads_the_row(recommender.encoders[slot.encoder])
    return {
        "name": slot.name,
        "file": "probe" if per_row else "vectors",
        "vectors": slot.name if own else shared,
        "by": "probe" if per_row else side,
        "mapping": shared,
    }


def mapping_card(recommender: Recommender) -> dict[str, Any]:
    """Returns the mappings' architecture by slot: tensors of `mapping.safetensors` by name, and the layers in words."""
    card: dict[str, Any] = {}
    for name, projector in recommender.projectors.items():
        prefix = f"{name}." if name else ""
        for side in projector.sides:
            modules = projector.modules_of(side, vectors_per_slot(recommender.encoders[name])[side])
            card[of_encoder(side, name)] = {
                "architecture": _architecture(projector, modules[0]),
                "mean": f"{prefix}{side}_mean",
                "std": f"{prefix}{side}_std",
                "layers": [[f"{prefix}mlps.{module}.{part}" for part in _MLP_TENSORS] for module in modules],
                "n_tokens": projector.n_tokens,
            }
    return card


def write_tables(model: TrainedModel, folder: Path) -> None:
    """Writes `users.csv` and `items.csv`: raw ids in dense order, row 0 = unknown; texts as prompts have them.

    A column that a prompt has at one place is named as the field of the template: `target`, and slots that take words.
    """
    assert model.language is not None
    template, data = model.language.setup.template, model.data
    titles = [clean_title(title) for title in data.titles[: data.n_items + 1]]
    marks = (template.title_open, template.title_close)
    opening, closing = marks if template.quote_target else ("", "")
    shown = [title.strip() if template.strip_history_titles else title for title in titles]
    columns: dict[Side, dict[str, list[str]]] = {
        "user": {"id": list(data.user_ids)},
        "item": {
            "id": list(data.item_ids),
            "title": titles,
            "target": [f"{opening}{title.strip()}{closing}" for title in titles],
            "in_history": [f"{marks[0]}{title}{marks[1]}" for title in shown],
        },
    }
    for side, table in columns.items():
        words = _words(model, side, len(table["id"]))
        table |= {of_encoder(side, name): [clean_title(text).strip() for text in each] for name, each in words.items()}
        pl.DataFrame(table).write_csv(folder / f"{side}s.csv")


def word_columns(model: TrainedModel, side: Side, n_ids: int) -> dict[str, list[str]]:
    """Returns the words that encoders write into the slots of users or items, by column, for ids below `n_ids`."""
    return {of_encoder("words", name): words for name, words in _words(model, side, n_ids).items()}


def _words(model: TrainedModel, side: Side, n_ids: int) -> dict[str, list[str]]:
    assert model.language is not None
    sources = {name: source for name, source in model.language.encoders.items() if source.gives_words}
    found = {name: source.traits().words for name, source in sources.items()}
    return {name: list(words(side, range(n_ids))) for name, words in found.items() if words is not None}


def write_rows(
    model: TrainedModel, recommender: Recommender, folder: Path, rows: Rows, logits: Array
) -> list[dict[str, Any]]:
    """Writes rows of the run with their histories and scores, and the vectors that depend on the row.

    Returns:
        The rows, as `score.py` takes them.
    """
    data, histories = model.data, model.data.history(rows, model.spec.history.max_items)
    past = past_of(model, rows)
    written = [
        {
            "user": data.user_ids[int(user)],
            "item": data.item_ids[int(item)],
            "history": [data.item_ids[int(each)] for each in history if each],
            "probe": place,
            "logit": float(logit),
            **({"past": past[place]} if past else {}),
        }
        for place, (user, item, history, logit) in enumerate(zip(rows.user, rows.item, histories, logits, strict=True))
    ]
    lines = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in written)
    (folder / ROWS).write_text(lines, encoding="utf-8")
    if tensors := _row_vectors(model, recommender, rows):
        save_tensors(folder / "probe.safetensors", tensors)
    return written


def write_script(folder: Path) -> None:
    """Writes `score.py`."""
    text = importlib.resources.files("collm.trained").joinpath("templates", f"{SCRIPT}.tmpl").read_text("utf-8")
    (folder / SCRIPT).write_text(text, encoding="utf-8")


def script_check(folder: Path, rows: list[dict[str, Any]], allowed: float) -> ScriptCheck:
    """Scores some of the run's rows with `score.py`.

    Args:
        folder: The export.
        rows: Rows that `write_rows` wrote.
        allowed: Largest difference of probabilities to the run's.

    Returns:
        How it compares; anything that the script raises is a fault, too.
    """
    chosen = rows[:: max(1, len(rows) // CHECKED_ROWS)][:CHECKED_ROWS]
    try:
        # It is run and not imported: an import leaves compiled code in the folder.
        score = runpy.run_path(str(folder / SCRIPT))["score"]
        found = torch.tensor([[score(row), row["logit"]] for row in chosen], dtype=torch.float64)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the export says it, and does without the script
        # The card is given away: it says nothing of where the folder lies.
        said = visible(" ".join(str(error).replace(f"{folder}/", "").split()), keep="")
        return ScriptCheck(0, 0.0, f"it stops at rows of the run ({type(error).__name__}: {said})")
    gap = float((torch.sigmoid(found[:, 0]) - torch.sigmoid(found[:, 1])).abs().max())
    fault = f"it gives other probabilities than the run, by up to {gap:.2g} on {len(chosen)} rows"
    return ScriptCheck(len(chosen), gap, "" if gap <= allowed else fault)


def script_fault(model: TrainedModel) -> str:
    """Says why `score.py` cannot build the run's prompts, empty where it can."""
    assert model.language is not None
    if said := lists_fault(model.spec.history):
        return said
    tokens = [n for source in model.language.encoders.values() for n in source.traits().tokens.values()]
    if model.language.setup.template.slot_join and max(tokens, default=1) > 1:
        return "the template puts words between the tokens of a slot (slot_join), which score.py does not"
    return ""


@torch.no_grad()
def history_vectors(model: TrainedModel, recommender: Recommender) -> dict[str, torch.Tensor]:
    """Returns the vectors of history items by dense id, where those of target items depend on the row."""
    assert model.language is not None
    found: dict[str, torch.Tensor] = {}
    for slot in model.language.setup.template.slots():
        encoder = recommender.encoders.get(slot.encoder)
        if slot.kind in TITLE_SLOTS and encoder is not None and reads_the_row(encoder):
            ids = torch.arange(model.data.n_items + 1, device=model.device)
            with naming_encoder(encoder, "encode"):
                found[slot.name] = encoder.encode(items_alone(ids, encoder)).item.float().cpu().contiguous()
    return found


@torch.no_grad()
def _row_vectors(model: TrainedModel, recommender: Recommender, rows: Rows) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for name, encoder in recommender.encoders.items():
        if not reads_the_row(encoder):
            continue
        batch: EncoderBatch = EncoderBatcher.of(encoder, model.data, model.device)(rows)
        with naming_encoder(encoder, "encode"):
            pair = encoder.encode(batch)
        for side in ("user", "item", "context"):
            if (vectors := getattr(pair, side)) is not None and vectors.numel():
                tensors[of_encoder(side, name)] = vectors.float().cpu().contiguous()
    return tensors


def reads_the_row(encoder: EncoderModule) -> bool:
    """Whether vectors of users or items differ between rows."""
    reads = (encoder.history_items, encoder.user_depends_on_item, encoder.reads_earlier_labels)
    return any(reads) or encoder.reads_time or encoder.context_dim is not None


def _depends_on_row(model: TrainedModel, slot: Slot) -> bool:
    """Whether a slot's vectors are those of the row, and not of an id."""
    assert model.language is not None
    traits = model.language.encoders[slot.encoder].traits()
    if slot.kind == "context":
        return True
    if traits.reads_earlier_labels or traits.reads_time:
        return slot.kind not in TITLE_SLOTS
    return slot.kind == "user" and (traits.user_depends_on_item or traits.history_items > 0)


def _architecture(projector: Projector, module: str) -> str:
    first, _, last = cast(torch.nn.Sequential, projector.mlps[module])
    sizes = [(layer.in_features, layer.out_features) for layer in (first, last)]
    return f"Linear{sizes[0]} - ReLU - Linear{sizes[1]} on (vector - mean) / std"
