"""Scores as the tables of a run folder: `scores.parquet`, `floors.parquet`, and what rounding hides in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import polars as pl

from collm.data.columns import as_series
from collm.data.prepared import PreparedData, Rows
from collm.data.slices import slice_masks
from collm.metrics.score_notes import rounded_logits
from collm.spec.model import ResolvedSpec

Array = np.ndarray[Any, Any]
# What prequential evaluation adds to a table of scores.
WINDOW_COLUMNS = ("window", "frozen_logit")
# How the note of a prequential evaluation begins.
PREQUENTIAL = "Prequential evaluation: "
# How notes on ranked lists begin.
RANKED = ("Ranking, ", "Metrics over ")


class Scored(Protocol):
    """A model's scores."""

    @property
    def logits(self) -> Mapping[str, Array]:
        """Split -> float32 [n_rows]."""
        ...


def probabilities(logits: Array) -> Array:
    """Returns 1 / (1 + exp(-logit)) in float64, without overflow."""
    values = logits.astype(np.float64)
    return np.exp(-np.logaddexp(0.0, -values))


def scores_frame(spec: ResolvedSpec, data: PreparedData, logits: Mapping[str, Array]) -> pl.DataFrame:
    """Returns the content of a run's `scores.parquet` (docs/run-folder.md)."""
    users, items = as_series(data.user_ids), as_series(data.item_ids)
    frames = []
    for split, values in logits.items():
        rows = data.rows(split)
        masks = _slices(spec, data, rows)
        frames.append(
            pl.DataFrame(
                {
                    "split": [split] * len(rows),
                    "row": np.asarray(rows.row, dtype=np.int64),
                    "user": users.gather(rows.user),
                    "item": items.gather(rows.item),
                    "label": np.asarray(rows.label, dtype=np.int8),
                    "logit": values.astype(np.float32),
                    "score": probabilities(values),
                    "user_train_rows": data.user_train_rows[rows.user],
                    "item_train_rows": data.item_train_rows[rows.item],
                    **masks,
                    "timestamp": pl.Series(rows.timestamp if data.has_times else [None] * len(rows), dtype=pl.Int64),
                }
            )
        )
    return pl.concat(frames)


def floors_frame(data: PreparedData, floors: Mapping[str, Scored]) -> pl.DataFrame:
    """Returns the content of a run's `floors.parquet`: a column of scores per floor beside `split` and `row`."""
    frames = []
    for split in next(iter(floors.values())).logits if floors else ():
        scores = {name: probabilities(floor.logits[split]) for name, floor in floors.items()}
        rows = np.asarray(data.rows(split).row, dtype=np.int64)
        frames.append(pl.DataFrame({"split": [split] * len(rows), "row": rows, **scores}))
    return pl.concat(frames) if frames else pl.DataFrame({"split": [], "row": []})


def floor_notes(floors: Mapping[str, Scored]) -> list[str]:
    """Returns a sentence per floor of which `floors_frame` ties rows that its logits tell apart."""
    notes = []
    for name, floor in floors.items():
        frames = [
            pl.DataFrame({"split": [split] * len(values), "logit": values, "score": probabilities(values)})
            for split, values in floor.logits.items()
        ]
        lost = rounded_logits(pl.concat(frames)) if frames else {}
        notes += [
            f"Floor {name}: {said}; reports compare methods with it by the probability." for said in lost.values()
        ]
    return notes


def _slices(spec: ResolvedSpec, data: PreparedData, rows: Rows) -> dict[str, Array]:
    counts = data.user_train_rows[rows.user], data.item_train_rows[rows.item]
    masks = slice_masks(*counts, warm=spec.slices.warm, cold=spec.slices.cold)
    return {name: masks[name] for name in spec.evaluate.slices}
