"""Metrics from a run's `scores.parquet` without the model that made them: other slice rules, metrics, mixtures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from collm.contracts.metric import Metric, ScoredRows
from collm.data.slices import slice_masks
from collm.errors import RunError
from collm.metrics.evaluate import evaluate
from collm.metrics.scored_rows import scored_rows
from collm.stages.evaluate import RESAMPLING_SEED

SCORES = "scores.parquet"
FLOORS = "floors.parquet"
RANKING = "ranking.parquet"
COLUMNS = {
    "split": pl.String,
    "row": pl.Int64,
    "user": pl.String,
    "item": pl.String,
    "label": pl.Int8,
    "logit": pl.Float32,
    "score": pl.Float64,
    "user_train_rows": pl.Int64,
    "item_train_rows": pl.Int64,
}

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Measure:
    """How scores become numbers.

    Attributes:
        warm: Rule of the warm slice (`collm.data.slices`).
        cold: Rule of the cold slice.
        slices: Slices to measure.
        metrics: Name -> metric.
        resamples: Bootstrap resamples behind each interval; 0 = no interval.
        list_metrics: Label -> metric of ranked lists.
    """

    warm: str
    cold: str
    slices: Sequence[str]
    metrics: Mapping[str, Metric]
    resamples: int = 1000
    list_metrics: Mapping[str, Metric] = field(default_factory=dict)

    def sliced(self, frame: pl.DataFrame) -> dict[str, ScoredRows]:
        """Returns the rows of every slice, of what `read_scores` gives."""
        return {name: scored_rows(frame.filter(pl.Series(mask))) for name, mask in slice_columns(frame, self).items()}


def read_scores(folder: Path) -> pl.DataFrame:
    """Reads the scores of a run folder.

    Args:
        folder: The run folder.

    Returns:
        One line per scored row, with at least the columns of `COLUMNS`.

    Raises:
        RunError: If the file is missing, unreadable, or lacks a column.
    """
    path = folder / SCORES
    try:
        frame = pl.read_parquet(path, glob=False)
    except FileNotFoundError as error:
        raise RunError(f"{path}: missing; the run is not finished: repeat `collm run`") from error
    except (OSError, pl.exceptions.PolarsError) as error:
        raise RunError(f"{path}: cannot be read ({error}); delete {folder} and repeat `collm run`") from error
    missing = sorted(COLUMNS.keys() - set(frame.columns))
    if missing:
        raise RunError(f"{path}: lacks the columns {', '.join(missing)}; it was written by another version of collm")
    return frame.with_columns(pl.col(name).cast(dtype) for name, dtype in COLUMNS.items())


def measure_scores(frame: pl.DataFrame, measure: Measure) -> dict[str, Any]:
    """Computes metrics on slices of every split.

    Args:
        frame: What `read_scores` gives.
        measure: Rules and metrics.

    Returns:
        Split -> slice -> metric -> record, as `metrics` of `results.json`.
    """
    return {
        str(split): {
            name: evaluate(measure.metrics, sliced, n_resamples=measure.resamples, seed=RESAMPLING_SEED)
            for name, sliced in measure.sliced(rows).items()
        }
        for (split,), rows in frame.group_by("split", maintain_order=True)
    }


def slice_columns(frame: pl.DataFrame, measure: Measure) -> dict[str, Array]:
    """Returns slice -> bool [n_rows] under the rules of `measure`, from the training counts beside each score."""
    counts = (frame[name].to_numpy() for name in ("user_train_rows", "item_train_rows"))
    masks = slice_masks(*counts, warm=measure.warm, cold=measure.cold)
    return {name: masks[name] for name in measure.slices}


def same_rows(frames: Mapping[str, pl.DataFrame]) -> None:
    """Checks that several runs scored the same rows in the same order.

    Args:
        frames: Name of the run -> its scores.

    Raises:
        RunError: If they differ; names two runs and the first row that differs.
    """
    keys = ["split", "row", "user", "item", "label"]
    (first, reference), *others = frames.items()
    for name, frame in others:
        if frame.height != reference.height:
            raise RunError(
                f"'{first}' scored {reference.height} rows and '{name}' {frame.height}: rows must be the same; "
                "`collm report` shows runs of other rows beside each other"
            )
        differs = (reference.select(keys) != frame.select(keys)).select(pl.any_horizontal(pl.all())).to_series()
        if differs.any():
            at = int(differs.arg_max() or 0)
            raise RunError(
                f"'{first}' and '{name}' scored different rows: line {at} is {reference.row(at)[:5]} in one and "
                f"{frame.row(at)[:5]} in the other"
            )


def mean_score(frames: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Returns the mean of `score` over the same rows of several runs (the ensembles of the paper's Table 3).

    Args:
        frames: Name of the run -> its scores.

    Returns:
        The first run's frame with the mean as `score` and null as `logit`: the mean of probabilities has no logit of
        its own model.

    Raises:
        RunError: If the rows differ.
    """
    same_rows(frames)
    scores = np.mean([frame["score"].to_numpy() for frame in frames.values()], axis=0)
    reference = next(iter(frames.values()))
    return reference.with_columns(pl.Series("score", scores), pl.lit(None, dtype=pl.Float32).alias("logit"))
