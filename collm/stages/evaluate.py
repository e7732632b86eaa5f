"""Stages: score the evaluation rows with one model, then compute metrics on slices of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from collm.contracts.metric import Metric, metric_label
from collm.data.prepared import PreparedData, Rows
from collm.errors import RunError
from collm.files import replacing, write_atomically
from collm.metrics.evaluate import evaluate
from collm.metrics.scored_rows import scored_rows
from collm.registry import Registry
from collm.spec.contents import config_contents
from collm.spec.fingerprint import config_payload
from collm.spec.metric_entries import MetricEntry, entry_config
from collm.spec.model import ResolvedSpec
from collm.stages.score_tables import scores_frame
from collm.stages.stage import RunContext, StageResult
from collm.stages.versions import version_of

SCORES = "scores.parquet"
METRICS = "metrics.json"
# One seed for all runs: the same users are drawn for every method, so intervals are comparable between them.
RESAMPLING_SEED = 0

Array = np.ndarray[Any, Any]
Scorer = Callable[[Rows], Array]


@dataclass(frozen=True)
class Evaluated:
    """Scores and metrics of one model.

    Attributes:
        scoring: The stage that made the scores.
        logits: Split -> float32 [n_rows].
        metrics: Split -> slice -> metric -> record of `results.json`.
        reused: Whether scores and metrics had been there before.
        seconds: Wall time spent by this command.
    """

    scoring: StageResult
    logits: Mapping[str, Array]
    metrics: Mapping[str, Any]
    reused: bool
    seconds: float

    def timing(self) -> dict[str, Any]:
        """Returns its entry under `timing` in `results.json`."""
        work = self.scoring.work_seconds
        return {
            "kind": self.scoring.kind,
            "seconds": round(self.seconds, 3),
            "reused": self.reused,
            "work_seconds": work,
        }


def evaluate_model(
    run: RunContext,
    data: PreparedData,
    scorer: Callable[[], Scorer],
    *,
    model: Mapping[str, Any],
    shared: bool = False,
    label: str = "",
) -> Evaluated:
    """Scores the evaluation splits and computes all metrics.

    Args:
        run: Supplies splits, slices, metrics and resamples.
        data: Prepared data.
        scorer: Makes the scoring function; called only where scores are missing, so that no weights load in vain. What
            its method `facts` returns, where it has one, is recorded with the stage.
        model: Everything that decides the scores besides the rows, as plain data.
        shared: Whether all processes score together; otherwise the main one does. Metrics are computed once.
        label: Name of the model, for progress lines.

    Returns:
        Scores and metrics.

    Raises:
        RunError: If a score is NaN or infinite; names split and source rows.
    """
    spec, runner = run.spec, run.stages
    splits = list(spec.evaluate.splits)

    def score(folder: Path) -> dict[str, Any]:
        score_rows = scorer()
        frames = [score_split(split, data.rows(split), score_rows) for split in splits]
        if not shared or runner.processes.is_main:
            with replacing(folder / SCORES) as temporary:
                pl.concat(frames).write_parquet(temporary)
        return {"rows": {split: len(data.rows(split)) for split in splits}, **getattr(score_rows, "facts", dict)()}

    scored = {"model": dict(model), "splits": splits, "version": version_of("evaluate")}
    scoring = runner.run("evaluate", scored, score, shared=shared, label=label)
    logits = read_logits(scoring.folder / SCORES, {split: data.rows(split) for split in splits})
    return measured(run, data, scoring, logits, scores=scoring.fingerprint, label=label)


def measured(
    run: RunContext,
    data: PreparedData,
    scoring: StageResult,
    logits: Mapping[str, Array],
    *,
    scores: str,
    label: str = "",
) -> Evaluated:
    """Computes all metrics of scored splits.

    Args:
        run: Supplies slices, metrics and resamples.
        data: Prepared data.
        scoring: The stage that scored the splits.
        logits: Split -> float32 [n_rows].
        scores: What decides the logits, hashed.
        label: Name of the model, for progress lines.

    Returns:
        Scores and metrics.
    """

    def compute(folder: Path) -> dict[str, Any]:
        content = {split: _metrics(run.spec, data, split, each, run.registry) for split, each in logits.items()}
        write_atomically(folder / METRICS, json.dumps(content, allow_nan=False) + "\n")
        return {}

    measuring = run.stages.run("metrics", metrics_payload(run, scores), compute, label=label)
    metrics = read_metrics(measuring.folder / METRICS)
    return Evaluated(scoring, logits, metrics, scoring.reused and measuring.reused, scoring.seconds + measuring.seconds)


def metrics_payload(run: RunContext, scores: str) -> dict[str, Any]:
    """Returns what decides metrics, as plain data; `scores` is a hash of what decides the scores."""
    spec = run.spec
    configs = [entry_config(entry, run.registry) for entry in spec.evaluate.metrics]
    return {
        "scores": scores,
        "slices": spec.slices.model_dump(mode="json"),
        "evaluate": config_payload(spec.evaluate.measuring()),
        "plugins": [run.code("metric", config) for config in configs],
        "files": [config_contents(config, "metric") for config in configs],
        "version": version_of("metrics"),
    }


def read_metrics(path: Path) -> dict[str, Any]:
    """Returns what a stage wrote as `metrics.json`.

    Raises:
        RunError: If it cannot be read.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{path}: cannot be read ({error}); remove this stage's folder and run again") from error


def build_metrics(entries: Iterable[MetricEntry], registry: Registry) -> dict[str, Metric]:
    """Builds metrics.

    Args:
        entries: Those of a resolved spec, or texts as a user writes them.
        registry: Where they are looked up.

    Returns:
        Label -> metric.

    Raises:
        SpecError: If there is no such metric, or it does not take the settings.
    """
    configs = [entry_config(entry, registry) for entry in entries]
    return {metric_label(each): registry.get("metric", each.name).load_factory()(each) for each in configs}


def score_split(split: str, rows: Rows, score_rows: Scorer) -> pl.DataFrame:
    """Returns split, source row and logit of rows.

    Raises:
        RunError: If a score is NaN or infinite; names split and source rows.
    """
    logits = np.asarray(score_rows(rows), dtype=np.float32)
    bad = ~np.isfinite(logits)
    if bad.any():
        shown = ", ".join(str(row) for row in np.asarray(rows.row)[bad][:8])
        raise RunError(f"{split}: {int(bad.sum())} of {len(rows)} scores are NaN or infinite, source rows {shown}")
    return pl.DataFrame({"split": [split] * len(rows), "row": np.asarray(rows.row, dtype=np.int64), "logit": logits})


def read_logits(path: Path, asked: Mapping[str, Rows]) -> dict[str, Array]:
    """Reads what a stage wrote as `scores.parquet`.

    Args:
        path: The file.
        asked: Split -> the rows that it must hold, in their order.

    Returns:
        Split -> float32 [n_rows] logits.

    Raises:
        RunError: If it cannot be read, or holds other rows.
    """
    try:
        frame = pl.read_parquet(path, glob=False).select("split", "row", "logit")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise RunError(f"{path}: cannot be read ({error}); remove this stage's folder and run again") from error
    logits = {}
    for split, wanted in asked.items():
        rows = frame.filter(pl.col("split") == split)
        if not np.array_equal(rows["row"].to_numpy(), wanted.row):
            raise RunError(
                f"{path}: rows differ from the prepared data's {split} rows; remove this stage's folder and run again"
            )
        logits[split] = rows["logit"].to_numpy()
    return logits


def _metrics(spec: ResolvedSpec, data: PreparedData, split: str, logits: Array, registry: Registry) -> dict[str, Any]:
    metrics = build_metrics(spec.evaluate.metrics, registry)
    frame = scores_frame(spec, data, {split: logits})
    return {
        name: evaluate(
            metrics, scored_rows(frame.filter(pl.col(name))), n_resamples=spec.evaluate.resamples, seed=RESAMPLING_SEED
        )
        for name in spec.evaluate.slices
    }


def floor_metrics(spec: ResolvedSpec, floors: Mapping[str, Evaluated]) -> dict[str, Any]:
    """Returns the metrics of floors as `results.json` has them: split -> slice -> floor -> metric."""
    return {
        split: {
            slice_name: {name: floor.metrics[split][slice_name] for name, floor in floors.items()}
            for slice_name in spec.evaluate.slices
        }
        for split in spec.evaluate.splits
    }


def protocol(spec: ResolvedSpec, data: PreparedData, registry: Registry) -> dict[str, Any]:
    """Returns the rules that rows were scored and sliced by, as `results.json` has them."""
    return {
        "visibility": spec.history.visibility,
        "tie_rule": data.tie_rule,
        "warm": spec.slices.warm,
        "cold": spec.slices.cold,
        "sees_earlier_rows": _sees_earlier_rows(spec, registry),
    }


def _sees_earlier_rows(spec: ResolvedSpec, registry: Registry) -> bool:
    """Whether a row's score may depend on what its user did in the evaluation period before it."""
    if spec.history.visibility == "as-of-split":
        return False
    if spec.backbone is not None or spec.evaluate.policy != "frozen":
        return True
    assert spec.encoder is not None  # the resolver refuses a spec with neither encoder nor backbone
    return bool(registry.get("encoder", spec.encoder.name).needs & {"history", "earlier-labels"})
