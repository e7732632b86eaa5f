"""How far a metric rests on rows that the leak checks find: the same scores measured with and without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from collm.component import BuildContext, Component
from collm.contracts.metric import Metric, ScoredRows
from collm.data.prepared import PreparedData, Rows
from collm.engine.encoder_task import EncoderBatcher, encoder_logits
from collm.errors import RunError
from collm.inspect.leak_checks import Finding
from collm.metrics.evaluate import evaluate
from collm.rescore import read_scores
from collm.spec.model import ResolvedSpec
from collm.stages.evaluate import RESAMPLING_SEED
from collm.stages.fit_encoder import build_encoder, default_config, fit_directly
from collm.stages.score_tables import probabilities

Array = np.ndarray[Any, Any]
Logits = Mapping[str, Array]

ALL_LEAKS = "all leaks"
SMALLEST_SCORE = 2.0**-53


def floor_logits(
    component: Component,
    spec: ResolvedSpec,
    data: PreparedData,
    splits: Sequence[str],
    *,
    context: BuildContext,
) -> dict[str, Array]:
    """Fits a floor and scores the evaluation rows with it, in memory and on the processor.

    Returns:
        Split -> float32 [n_rows] logits.
    """
    floor = build_encoder(component, default_config(component), data, spec, context)
    batcher = EncoderBatcher.of(floor, data, torch.device("cpu"))
    fit_directly(floor, data, batcher, history_items=spec.history.max_items)
    return {split: encoder_logits(floor, batcher, data.rows(split)) for split in splits}


def run_logits(folder: Path, data: PreparedData, splits: Sequence[str]) -> dict[str, Array]:
    """Reads the logits of a finished run for the rows of prepared data.

    Returns:
        Split -> float64 [n_rows], for those of `splits` that the run scored; the logit of the score where an ensemble
        has no logit of its own.

    Raises:
        RunError: If the run scored other rows.
    """
    frame = read_scores(folder)
    found = {}
    for split in splits:
        part = frame.filter(pl.col("split") == split)
        if not part.height:
            continue
        rows = data.rows(split)
        wanted = pl.DataFrame({"row": np.asarray(rows.row, dtype=np.int64)})
        joined = wanted.join(part.select("row", "label", "score", "logit"), on="row", how="left", maintain_order="left")
        matches = joined.height == len(rows) == part.height and np.array_equal(
            joined["label"].fill_null(-1).to_numpy(), rows.label
        )
        if not matches:
            raise RunError(
                f"{folder}: its {part.height} {split} rows are not the {len(rows)} of this spec; give the spec (and "
                "`--set` values) that the run was made with: the same dataset, `dataset.limit` and seed"
            )
        score = joined["score"].to_numpy().clip(SMALLEST_SCORE, 1 - SMALLEST_SCORE)
        logit = joined["logit"].cast(pl.Float64)
        found[split] = logit.fill_null(pl.Series(np.log(score) - np.log1p(-score))).to_numpy()
    return found


def without_rows(
    data: PreparedData,
    findings: Sequence[Finding],
    logits: Logits,
    metrics: Mapping[str, Metric],
    *,
    resamples: int,
) -> dict[str, dict[str, Any]]:
    """Measures logits on all rows, and without those of each finding.

    Args:
        data: Prepared data.
        findings: What the leak checks found; those without a row in a split are left out there.
        logits: Split -> float [n_rows].
        metrics: Name -> metric.
        resamples: Bootstrap resamples behind each interval; 0 = no interval.

    Returns:
        Split -> `all`, check names, and `all leaks` where more than one check of kind `leak` found rows -> `rows` (how
        many were measured) and `metrics` (records as in `results.json`).
    """
    measured: dict[str, dict[str, Any]] = {}
    for split, logit in logits.items():
        rows, score = data.rows(split), probabilities(logit)
        removed = {each.check.name: each.affected[split] for each in findings if each.affected[split].any()}
        leaks = [each.affected[split] for each in findings if each.check.kind == "leak" and each.check.name in removed]
        if len(leaks) > 1:
            removed[ALL_LEAKS] = np.logical_or.reduce(leaks)
        kept = {"all": np.ones(len(rows), dtype=bool), **{name: ~mask for name, mask in removed.items()}}
        measured[split] = {
            name: {
                "rows": int(mask.sum()),
                "metrics": evaluate(
                    metrics,
                    _scored(data, rows.take(mask), score[mask], logit[mask]),
                    n_resamples=resamples,
                    seed=RESAMPLING_SEED,
                ),
            }
            for name, mask in kept.items()
        }
    return measured


def _scored(data: PreparedData, rows: Rows, score: Array, logit: Array) -> ScoredRows:
    return ScoredRows(
        user=rows.user,
        label=rows.label,
        score=score,
        logit=logit.astype(np.float64),
        item=rows.item,
        timestamp=rows.timestamp if data.has_times else None,
        user_train_rows=data.user_train_rows[rows.user],
        item_train_rows=data.item_train_rows[rows.item],
    )
