"""Contract of a metric: a value with what it was computed from and what it had to leave out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic_core import to_jsonable_python

from collm.component import ComponentConfig

if TYPE_CHECKING:
    import numpy as np


_WORD = re.compile(r"[A-Za-z_][\w.+-]*")
# Words that would be read as something else than text.
_NOT_TEXT = frozenset({"true", "false", "null", "NaN", "Infinity"})


class MetricConfig(ComponentConfig):
    """Base of metric settings."""


def metric_label(config: MetricConfig) -> str:
    """Returns what a metric with these settings is called in results, tables and options.

    `name` where all settings are defaults, `name@10` where the field `k` alone differs from its default, otherwise
    `name(field=value, ...)` with the fields that differ, in the order of the class; of a path its last part.
    """
    fields = type(config).model_fields
    values = {name: getattr(config, name) for name in fields if name != "name"}
    other = {
        name: value
        for name, value in values.items()
        if fields[name].is_required() or value != fields[name].get_default(call_default_factory=True)
    }
    if not other:
        return config.name
    if set(other) == {"k"} and isinstance(other["k"], int | float) and not isinstance(other["k"], bool):
        return f"{config.name}@{_label_value(other['k'])}"
    return f"{config.name}({', '.join(f'{name}={_label_value(value)}' for name, value in other.items())})"


def _label_value(value: Any) -> str:
    if isinstance(value, Path):
        value = value.name
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and _WORD.fullmatch(value) and value not in _NOT_TEXT:
        return value
    return json.dumps(to_jsonable_python(value), ensure_ascii=False)


@dataclass(frozen=True)
class ScoredRows:
    """Rows with labels and scores, each array of length n_rows.

    Attributes:
        user: int64 user ids (any values; rows of one user share one).
        label: int8, 0 or 1.
        score: float64, higher = more likely positive; finite. A run's scores are probabilities in [0, 1].
        logit: float64 logits of the scores; None where there are none (a mean of several models' probabilities).
        item: int64 item ids: rows of one item share one; the values mean nothing else. None where not known.
        timestamp: int64 seconds since 1970 UTC, of ranked lists when the user is asked; None where the data has no
            times, or the scores are of a run of an earlier version, which did not keep them.
        user_train_rows: int64 rows of the row's user in the full training split; None where not known.
        item_train_rows: The same of its item.
        rank: int64 ranks, of ranked lists: 1 is the best of the user's candidates. The rows are then the best items of
            every user and all positives, `score` is minus the rank. None for labelled rows.
        candidates: int64 how many candidates the row's user has, of ranked lists.
    """

    user: np.ndarray[Any, Any]
    label: np.ndarray[Any, Any]
    score: np.ndarray[Any, Any]
    logit: np.ndarray[Any, Any] | None = None
    item: np.ndarray[Any, Any] | None = None
    timestamp: np.ndarray[Any, Any] | None = None
    user_train_rows: np.ndarray[Any, Any] | None = None
    item_train_rows: np.ndarray[Any, Any] | None = None
    rank: np.ndarray[Any, Any] | None = None
    candidates: np.ndarray[Any, Any] | None = None

    @property
    def ranking(self) -> np.ndarray[Any, Any]:
        """Returns what to rank by: the logit where there is one, because probabilities near 0 and 1 round to ties."""
        return self.score if self.logit is None else self.logit


@dataclass(frozen=True)
class MetricValue:
    """One metric on one slice.

    Attributes:
        value: None where no row or user could be used.
        n: Rows or users (the metric's own unit) that the value averages over.
        skipped: Reason -> how many were left out for it, e.g. {"one-class": 96}.
        reason: Why `value` is None; empty otherwise.
    """

    value: float | None
    n: int
    skipped: Mapping[str, int] = field(default_factory=dict)
    reason: str = ""


class Metric(Protocol):
    """What a metric factory returns. Factory: `build(config) -> Metric`.

    A metric whose values are limited may also have `bounds: tuple[float, float]`; intervals are cut there. One that
    does not look at labels (coverage, novelty) says so with `reads_labels = False`: the contract suite then asks that
    labels change nothing, and not that better scores give a better value. A metric of ranked lists that reads items
    beside the positives has `depth: int`, how many of the best it reads; lists then hold so many (10 without it), fewer
    in a slice that takes positives out of the candidates.

    Attributes:
        higher_is_better: Direction.
        unit: What `n` counts: `rows` or `users`.
    """

    higher_is_better: bool
    unit: str

    def compute(self, rows: ScoredRows) -> MetricValue:
        """Returns the value on these rows.

        Raises:
            DataError: If a score is NaN or infinite.
        """
        ...

    def resample(self, rows: ScoredRows, user_weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Returns the metric under resampled users.

        Args:
            rows: The rows.
            user_weights: int [n_resamples, n_users] how often each user was drawn; column j is the j-th smallest
                distinct value of `rows.user`.

        Returns:
            float64 [n_resamples]; NaN where a resample has no usable row or user.
        """
        ...
