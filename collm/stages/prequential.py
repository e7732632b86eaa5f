"""Prequential evaluation: test rows in windows of time, each scored by a model that was updated on what came before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from collm.contracts.metric import ScoredRows
from collm.data.prepared import PreparedData
from collm.data.windows import Window, cut_windows
from collm.errors import DataError
from collm.files import write_atomically
from collm.metrics.evaluate import evaluate
from collm.metrics.scored_rows import scored_rows
from collm.metrics.uncertainty import paired_difference
from collm.spec.fingerprint import fingerprint
from collm.spec.sections import WindowLength
from collm.stages.continued import rows_digest
from collm.stages.evaluate import (
    METRICS,
    RESAMPLING_SEED,
    SCORES,
    Evaluated,
    build_metrics,
    measured,
    metrics_payload,
    read_logits,
    read_metrics,
    score_split,
)
from collm.stages.score_tables import PREQUENTIAL, scores_frame
from collm.stages.stage import RunContext
from collm.stages.versions import version_of
from collm.stages.window_models import UpdatedRecommender, check_policy

Array = np.ndarray[Any, Any]
SPLIT = "test"


@dataclass(frozen=True)
class WindowScores:
    """What prequential evaluation adds to a run.

    Attributes:
        evaluated: Scores and metrics; those of test are of the updated models.
        windows: The windows.
        frozen: float32 [n_test_rows] logits of the model that training made.
        seconds: Seconds of updating before each window.
        updated: What the updates did, in words.
    """

    evaluated: Evaluated
    windows: tuple[Window, ...]
    frozen: Array
    seconds: tuple[float, ...]
    updated: str = "nothing is updated"


def plan_windows(run: RunContext, data: PreparedData) -> list[Window]:
    """Cuts the test rows, so that what is wrong with them or with the policy is said before anything is fitted.

    Raises:
        DataError: If the split is not a split in time.
        SpecError: If the policy does not go with the tuning.
    """
    config = run.spec.evaluate
    if config.protocol == "split":
        return []
    assert config.window is not None  # the section refuses a spec without
    check_policy(run)
    windows = cut_windows(data, WindowLength.parse(config.window))
    if config.policy != "frozen" and not len(windows[0].new) and run.spec.backbone is not None:
        raise DataError(
            "evaluate.protocol prequential: there are no validation rows to update on before the first window"
        )
    return windows


def score_windows(
    run: RunContext, data: PreparedData, windows: Sequence[Window], base: Evaluated, model: UpdatedRecommender
) -> WindowScores:
    """Updates the model before each window and scores the window; every window is a stage.

    Args:
        run: Supplies the policy, stages and metrics.
        data: Prepared data.
        windows: What `plan_windows` made.
        base: Scores of the model that training made.
        model: The same model, which is updated here.

    Returns:
        Scores, metrics and costs.
    """
    frozen, policy = base.logits[SPLIT], run.spec.evaluate.policy
    if policy == "frozen":
        return WindowScores(base, tuple(windows), frozen, (0.0,) * len(windows))
    logits, seconds, made = np.empty_like(frozen), [], []
    for window in windows:
        seconds.append(model.update(policy, window))
        payload = {"model": model.payload(), "rows": rows_digest(window.rows), "version": version_of("evaluate")}

        def score(folder: Path, window: Window = window) -> dict[str, Any]:
            frame = score_split(SPLIT, window.rows, model.scorer())
            if run.stages.processes.is_main:
                frame.write_parquet(folder / SCORES)
            return {"rows": len(window.rows)}

        shared = run.spec.backbone is not None
        stage = run.stages.run("evaluate", payload, score, shared=shared, label=f"window {window.number}")
        logits[window.places] = read_logits(stage.folder / SCORES, {SPLIT: window.rows})[SPLIT]
        made.append(stage.fingerprint)
    scores = fingerprint({"base": base.scoring.fingerprint, "windows": made})
    found = measured(run, data, base.scoring, {**base.logits, SPLIT: logits}, scores=scores, label="windows")
    return WindowScores(found, tuple(windows), frozen, tuple(seconds), model.said(policy))


def window_records(run: RunContext, data: PreparedData, found: WindowScores) -> list[dict[str, Any]]:
    """Returns the windows as `results.json` has them, with metrics and paired differences to the frozen model."""
    both = {"frozen": found.frozen, "own": found.evaluated.logits[SPLIT]}
    frames = {name: scores_frame(run.spec, data, {SPLIT: logits}) for name, logits in both.items()}

    def compute(folder: Path) -> dict[str, Any]:
        content = [_window_metrics(run, window, frames) for window in found.windows]
        write_atomically(folder / METRICS, json.dumps({"windows": content}, allow_nan=False) + "\n")
        return {}

    digest = {name: hashlib.sha256(logits.astype("<f4").tobytes()).hexdigest() for name, logits in both.items()}
    cuts = [rows_digest(window.rows) for window in found.windows]
    # The rows' labels and users are those of the base's data.
    scores = {"base": found.evaluated.scoring.fingerprint, "scores": digest, "windows": cuts}
    payload = metrics_payload(run, fingerprint(scores))
    measuring = run.stages.run("metrics", payload | {"prequential": version_of("windows")}, compute, label="by window")
    metrics = read_metrics(measuring.folder / METRICS)["windows"]
    return [
        {
            "number": window.number,
            "first": int(window.rows.timestamp.min()),
            "last": int(window.rows.timestamp.max()),
            "rows": len(window.rows),
            "users": len(np.unique(window.rows.user)),
            "new_users": window.new_users,
            "new_items": window.new_items,
            "update_seconds": round(seconds, 3),
            **each,
        }
        for window, seconds, each in zip(found.windows, found.seconds, metrics, strict=True)
    ]


def _window_metrics(run: RunContext, window: Window, frames: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    config = run.spec.evaluate
    metrics = build_metrics(config.metrics, run.registry)
    rows: dict[str, ScoredRows] = {name: scored_rows(frame[window.places]) for name, frame in frames.items()}
    settings = {"n_resamples": config.resamples, "seed": RESAMPLING_SEED}
    values = {name: evaluate(metrics, each, **settings) for name, each in rows.items()}
    gaps = {}
    for name, metric in metrics.items():
        if (gap := paired_difference(metric, rows["own"], rows["frozen"], **settings)) is not None:
            gaps[name] = dict(zip(("value", "low", "high"), gap, strict=True))
    return {"metrics": values["own"], "frozen": values["frozen"], "difference": gaps}


def with_windows(scores: pl.DataFrame, found: WindowScores) -> pl.DataFrame:
    """Adds to `scores.parquet` the window of each test row and the logit of the frozen model; null in other splits."""
    numbers = np.zeros(len(found.frozen), dtype=np.int32)
    for window in found.windows:
        numbers[window.places] = window.number
    is_test = scores["split"] == SPLIT
    own = scores.filter(is_test).with_columns(window=pl.Series(numbers), frozen_logit=pl.Series(found.frozen))
    # Splits follow one another, so their order is kept.
    rest = {split: scores.filter(scores["split"] == split) for split in scores["split"].unique(maintain_order=True)}
    return pl.concat([own if split == SPLIT else each for split, each in rest.items()], how="diagonal")


def prequential_notes(run: RunContext, found: WindowScores) -> list[str]:
    """Returns the sentences that tables of prequential evaluation must state."""
    window, n = run.spec.evaluate.window, len(found.windows)
    said = (
        f"{PREQUENTIAL}test is scored in {n} windows ({window}) in order of time; before each, {found.updated}. "
        "Floors are fitted once, on training rows."
    )
    if run.spec.evaluate.policy != "frozen" and n > 1:
        said += (
            " Metrics of all windows together compare scores of models that were updated differently: an update that "
            "moves all scores changes AUC over all windows and not that of a window."
        )
    return [said]
