"""Metrics of one slice, as they appear in `results.json`. Knows no slices and no splits: the caller passes the rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from collm.contracts.metric import Metric, ScoredRows
from collm.errors import PluginError
from collm.metrics.grouping import check_rows
from collm.metrics.uncertainty import interval


def evaluate(
    metrics: Mapping[str, Metric], rows: ScoredRows, *, n_resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Computes every metric with its interval.

    All metrics see the same resampled users, so their values can be compared within a resample.

    Args:
        metrics: Name -> metric.
        rows: Rows of one slice; may be empty.
        n_resamples: Bootstrap resamples; 0 leaves the interval out (null).
        seed: Seed of the bootstrap.

    Returns:
        Name -> `{"value", "low", "high", "n", "skipped"}`, plain data for JSON; `low` and `high` are the ends of the
        95% interval. Where the metric is not defined, `value`, `low` and `high` are None and `reason` says why.

    Raises:
        DataError: If a score is NaN or infinite, or a label is neither 0 nor 1.
        PluginError: If a metric returns neither a value nor a reason, or a NaN.
    """
    check_rows(rows)
    return {name: _entry(name, metric, rows, n_resamples=n_resamples, seed=seed) for name, metric in metrics.items()}


def _entry(name: str, metric: Metric, rows: ScoredRows, *, n_resamples: int, seed: int) -> dict[str, Any]:
    computed = metric.compute(rows)
    skipped = {reason: int(count) for reason, count in computed.skipped.items()}
    if computed.value is None:
        if not computed.reason:
            raise PluginError(f"metric '{name}' gave no value and no reason; MetricValue(reason=...) must say why")
        empty = {"value": None, "low": None, "high": None, "n": int(computed.n), "skipped": skipped}
        return {**empty, "reason": computed.reason}
    value = float(computed.value)
    if value != value:
        raise PluginError(
            f"metric '{name}' gave NaN on {len(rows.score)} rows; return value=None with a reason instead"
        )
    ends = interval(metric, rows, n_resamples=n_resamples, seed=seed)
    low, high = ends if ends is not None else (None, None)
    return {"value": value, "low": low, "high": high, "n": int(computed.n), "skipped": skipped}
