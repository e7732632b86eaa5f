"""An encoder for more users and items than it was fitted for, without and with what their rows say of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from collm.contracts.encoder import EncoderConfig, EncoderData, IdTable, Side, Sizes
from collm.data.prepared import PreparedData, Rows
from collm.engine.checkpoint import save_tensors
from collm.engine.device import derive_seed, seed_torch
from collm.engine.encoder_task import EncoderBatcher
from collm.engine.fold_in import LEARNING_RATE, FoldIn, fold_in
from collm.model.encoder import EncoderModule, naming_encoder
from collm.model.growth import SIDES, find_tables, grown_state, rows_of_ids, with_rows_of_padding
from collm.stages.continued import continue_encoder
from collm.stages.fit_encoder import (
    WEIGHTS,
    build_on,
    encoder_data,
    encoder_facts,
    load_strictly,
    save_trained_on,
)
from collm.stages.stage import RunContext

Array = np.ndarray[Any, Any]
FOLDED = "folded in"
GRAPH_NOTE = (
    "New rows entered the encoder's graph: its weights for ids that were trained before are as they were, and their "
    "vectors follow from the new graph."
)


@dataclass(frozen=True)
class Fitted:
    """A fitted encoder, and what it was fitted on.

    Attributes:
        config: Its settings, those included that its rows decided.
        state: Its weights.
        sizes: Users and items that it has rows for.
        rows: Rows of the larger table that it was trained on.
    """

    config: EncoderConfig
    state: Mapping[str, torch.Tensor]
    sizes: Sizes
    rows: Rows


def grown_encoder(run: RunContext, fitted: Fitted, data: PreparedData, folder: Path) -> dict[str, Any]:
    """Writes the encoder for all users and items of the data, with new ones as unknown as they are to the old one.

    Args:
        run: Supplies seed, device and history settings.
        fitted: The encoder.
        data: Data with more users and items, whose old ids have the same numbers.
        folder: Takes weights and the rows that it was trained on: those of `fitted`.

    Returns:
        Facts for the results.
    """
    grown = _Grown.of(run, fitted, data, fitted.rows)
    if grown is None:
        return continue_encoder(run, fitted.config, data, fitted.rows, start={}, epochs=0, folder=folder).facts
    new = {side: np.arange(grown.sizes.rows(side)) >= fitted.sizes.rows(side) for side in SIDES}
    save_tensors(folder / WEIGHTS, with_rows_of_padding(grown.state, grown.tables, new, grown.sizes))
    save_trained_on(folder, data, fitted.rows)
    return {"continued": "grown", "train_rows": len(fitted.rows), **encoder_facts(grown.encoder)}


def folded_encoder(run: RunContext, fitted: Fitted, data: PreparedData, rows: Rows, folder: Path) -> dict[str, Any]:
    """Folds in the ids that the encoder was not trained on and that the rows show; nothing else changes.

    Their rows start where a fresh encoder has them and are trained on the rows that involve them. Graphs are those of
    all rows. Encoders that are solved are solved again on all rows, those that are read are read again.

    Args:
        run: Supplies seed, device and history settings.
        fitted: The encoder.
        data: Data with more users and items, whose old ids have the same numbers.
        rows: All rows that have been seen, those of `fitted` included.
        folder: Takes weights and `rows`.

    Returns:
        Facts for the results.
    """
    grown = _Grown.of(run, fitted, data, rows)
    if grown is None:
        return continue_encoder(run, fitted.config, data, rows, start={}, epochs=0, folder=folder).facts
    sizes, encoder = grown.sizes, grown.encoder
    untrained = {side: ~_occurring(fitted.rows, side, sizes) for side in SIDES}
    new = {side: untrained[side] & _occurring(rows, side, sizes) for side in SIDES}
    added = {side: np.arange(sizes.rows(side)) >= fitted.sizes.rows(side) for side in SIDES}
    # An id that was added and that no row shows stays unknown.
    unknown = {side: added[side] & ~new[side] for side in SIDES}
    state, fresh = with_rows_of_padding(grown.state, grown.tables, unknown, sizes), encoder.state_dict()
    for name, mark in rows_of_ids(grown.tables, new, sizes).items():
        state[name][mark] = fresh[name][mark]
    load_strictly(encoder, state, where=f"encoder '{fitted.config.name}': weights of the parent")
    encoder.to(run.accelerator.device)
    how = _train_new_rows(run, grown, fitted.config, rows, new)
    save_tensors(folder / WEIGHTS, encoder.state_dict())
    save_trained_on(folder, data, rows)
    said = encoder_facts(encoder)
    if "graph" in run.registry.get("encoder", fitted.config.name).needs:
        said["notes"] = [*said.get("notes", ()), GRAPH_NOTE]
    ids = {f"folded_{side}s": int(new[side].sum()) for side in SIDES}
    return {"continued": FOLDED, **ids, **how, "train_rows": len(rows), **said}


def _train_new_rows(
    run: RunContext, grown: _Grown, config: EncoderConfig, rows: Rows, new: Mapping[Side, Array]
) -> dict[str, Any]:
    """Trains the rows of new ids; returns how."""
    involved = rows.take(new["user"][rows.user] | new["item"][rows.item])
    seed = derive_seed(run.spec.seed, "fold-in", config.name, len(rows))
    seed_torch(seed)
    with naming_encoder(grown.encoder, "fit_phases"):
        # What is learnt once has no rows of ids: the weights of `online`.
        *_, phase = (phase for phase in grown.encoder.fit_phases(config) if phase.continues)
    batcher = EncoderBatcher.of(grown.encoder, grown.view, run.accelerator.device)
    marks = rows_of_ids(grown.tables, new, grown.sizes)
    steps = fold_in(grown.encoder, phase, batcher, FoldIn(involved, marks, len(involved) / len(rows), seed))
    return {"fold_in_rows": len(involved), "fold_in_steps": steps, "fold_in_learning_rate": LEARNING_RATE}


@dataclass(frozen=True)
class _Grown:
    """An encoder fitted by gradient that was built on more users and items, and the state that it is to have.

    Attributes:
        encoder: As it was built.
        view: What it was built on.
        tables: Where it has rows of ids.
        sizes: Users and items.
        state: Values of the fitted encoder, and initial ones for ids that it had no row for.
    """

    encoder: EncoderModule
    view: PreparedData
    tables: Mapping[str, tuple[IdTable, ...]]
    sizes: Sizes
    state: Mapping[str, torch.Tensor]

    @classmethod
    def of(cls, run: RunContext, fitted: Fitted, data: PreparedData, rows: Rows) -> _Grown | None:
        """Builds the encoder on rows; None where it is not fitted by gradient."""
        component = run.registry.get("encoder", fitted.config.name)
        view = data.trained_on(rows)
        given = encoder_data(view, run.spec.history.max_items)

        def build(seen: EncoderData) -> EncoderModule:
            return build_on(component, fitted.config, seen, seed=run.spec.seed, context=run.build)

        encoder = build(given)
        if encoder.fit_mode != "gradient":
            return None
        sizes = Sizes(data.n_users, data.n_items)
        tables = find_tables(encoder, build, given)
        state = grown_state(encoder.state_dict(), fitted.state, tables, before=fitted.sizes, now=sizes)
        return cls(encoder, view, tables, sizes, state)


def _occurring(rows: Rows, side: Side, sizes: Sizes) -> Array:
    """Returns bool [n_ids + 1]: ids that are in the rows. Padding counts as one: it is never new."""
    found = np.zeros(sizes.rows(side), dtype=bool)
    found[0] = True
    found[rows.user if side == "user" else rows.item] = True
    return found
