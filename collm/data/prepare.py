"""From a dataset source to a prepared folder: checks, histories, limits, files and manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl

from collm.contracts.data import SAMPLED, SPLITS, DatasetSource, InteractionTable, Limit, Visibility, WrittenSource
from collm.data.checks import check_table, table_counts
from collm.data.columns import as_series, count_ids
from collm.data.draws import draw_groups, draw_within
from collm.data.history import HistoryIndex, index_histories
from collm.data.prepared_files import (
    INTERACTIONS,
    ITEM_ATTRIBUTES,
    ITEMS,
    NO_TIMES,
    OF_LIMIT,
    POSITIVES,
    SCHEMA_VERSION,
    USER_ATTRIBUTES,
    USERS,
    take_over,
    write_manifest,
)
from collm.ingest.bad_rows import QUARANTINE, quarantine_csv

Array = np.ndarray[Any, Any]


class HistoryRule(Protocol):
    """The part of a spec that decides which history a row sees."""

    @property
    def visibility(self) -> Visibility:
        """Which earlier positives a row sees."""
        ...


def prepare(
    source: DatasetSource,
    *,
    limit: Limit,
    history: HistoryRule,
    folder: Path,
    recipe: Mapping[str, Any] | None = None,
) -> None:
    """Reads a dataset, checks it, finds every row's history, and writes the prepared folder.

    Histories and training counts come from the full table; `limit` only decides which rows the splits give out.

    Args:
        source: The dataset.
        limit: Rows per split at most (whole users are drawn).
        history: Which earlier positives a row sees.
        folder: Where to write; made if missing. The caller makes the folder's appearance atomic.
        recipe: The dataset's settings, to be stated in the manifest.

    Raises:
        DataError: If the source is malformed or its counts differ from the recipe's.
    """
    if isinstance(source, WrittenSource):
        written = source.written(visibility=history.visibility, limit=limit)
        if written is not None:
            take_over(written, folder, recipe=recipe or {}, source_sha256=source.content_hash())
            return
    table = source.load()
    check_table(table)
    table = _in_source_order(table)
    folder.mkdir(parents=True, exist_ok=True)
    kept = _kept(table.frame, limit)
    index = index_histories(table.frame, history.visibility)
    _write_interactions(table.frame, index, kept, folder)
    _write_entities(table, folder)
    manifest = _manifest(table, kept, limit=limit)
    if table.bad_rows is not None:
        (folder / QUARANTINE).write_text(quarantine_csv(table.bad_rows), encoding="utf-8")
    manifest["history"] = {"visibility": history.visibility, "repeats": index.repeats, "items": "label 1"}
    if not table.has_times:
        manifest["times"] = NO_TIMES
    manifest["recipe"] = dict(recipe or {})
    manifest["source_sha256"] = source.content_hash()
    write_manifest(folder, manifest)


def _in_source_order(table: InteractionTable) -> InteractionTable:
    """Returns the table by `row`, column by column, so that there is never a second table in memory."""
    row = table.frame["row"]
    if row.is_sorted():
        return table
    place = row.arg_sort()
    columns = {series.name: series for series in table.frame.iter_columns()}
    table = dataclasses.replace(table, frame=table.frame.clear())
    for name in columns:
        columns[name] = columns[name].gather(place)
    return dataclasses.replace(table, frame=pl.DataFrame(columns))


def _kept(frame: pl.DataFrame, limit: Limit) -> Array:
    """Returns bool [n_rows]: rows that their split gives out. Rows outside every split are never given out."""
    kept: Array = frame["split"].is_not_null().to_numpy().copy()
    for name in SPLITS:
        n = getattr(limit, name)
        places = np.flatnonzero((frame["split"] == name).fill_null(False).to_numpy())
        if limit.user_rows is not None and name != "train":
            drawn = draw_within(frame["user"].to_numpy()[places], limit.user_rows, limit.seed)
            kept[places] = drawn
            places = places[drawn]
        if n is None or n >= len(places):
            continue
        user = frame["user"].to_numpy()[places]
        counts = count_ids(user, int(user.max()) + 1)
        is_drawn = np.zeros(len(counts), dtype=bool)
        is_drawn[counts > 0] = draw_groups(counts[counts > 0], n, limit.seed)
        kept[places] = is_drawn[user]
    return kept


def _write_interactions(frame: pl.DataFrame, index: HistoryIndex, kept: Array, folder: Path) -> None:
    pl.DataFrame({"item": index.positives}).write_parquet(folder / POSITIVES)
    frame.with_columns(
        pl.Series("history_start", index.start), pl.Series("history_end", index.end), pl.Series("kept", kept)
    ).write_parquet(folder / INTERACTIONS)


def _write_entities(table: InteractionTable, folder: Path) -> None:
    is_train = (table.frame["split"] == "train").fill_null(False).to_numpy()
    if SAMPLED in table.frame.columns:
        is_train = is_train & ~table.frame[SAMPLED].to_numpy()
    users, items = (
        _entities(raw, table.frame[name].to_numpy(), is_train, name)
        for name, raw in (("user", table.user_ids), ("item", table.item_ids))
    )
    users.write_parquet(folder / USERS)
    items.with_columns(as_series(table.titles, "title")).write_parquet(folder / ITEMS)
    for name, attributes in ((USER_ATTRIBUTES, table.user_attributes), (ITEM_ATTRIBUTES, table.item_attributes)):
        if attributes is not None:
            attributes.write_parquet(folder / name)


def _entities(raw_ids: Sequence[str], ids: Array, is_train: Array, name: str) -> pl.DataFrame:
    """Returns one line per dense id, padding included: the id, the raw id, its rows in the full training split."""
    return pl.DataFrame(
        {
            name: np.arange(len(raw_ids), dtype=np.int32),
            "id": as_series(raw_ids),
            "train_rows": count_ids(ids, len(raw_ids), where=is_train),
        }
    )


def _manifest(table: InteractionTable, kept: Array, *, limit: Limit) -> dict[str, Any]:
    full = table_counts(table)
    given_out = table.frame["split"].filter(pl.Series(kept)).value_counts()
    counts = {**full, **dict.fromkeys(SPLITS, 0), **dict(given_out.iter_rows())}
    cut = [f"{name} {counts[name]} of {full[name]} rows" for name in SPLITS if counts[name] < full[name]]
    notes = [*table.notes]
    if cut:
        how = "whole users drawn"
        if limit.user_rows is not None:
            how = f"users drawn with {limit.user_rows} of their validation and test rows at most"
        notes.append(f"{OF_LIMIT}{', '.join(cut)} ({how}, limit.seed {limit.seed}); warm/cold use all training rows")
    return {
        "schema": SCHEMA_VERSION,
        "counts": counts,
        "full_counts": full,
        "expected": dict(table.expected),
        "limit": limit.model_dump(exclude=None if limit.user_rows else {"user_rows"}),
        "tie_rule": table.tie_rule,
        "notes": notes,
    }
