"""The contract of metrics as tests: subclass `MetricContract` in your plugin's tests and set `component`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from collm.component import locations
from collm.contracts.metric import Metric, MetricConfig, MetricValue, ScoredRows, metric_label
from collm.errors import DataError
from collm.spec.component_config import component_config
from collm.spec.metric_entries import parse_metric
from collm.testing.component_suite import ComponentContract, expect

TOLERANCE = 1e-9
OPTIONAL = ("item", "timestamp", "user_train_rows", "item_train_rows")


class MetricContract(ComponentContract):
    """What every metric promises, checked on random rows with ties, or on ranked lists if it measures those alone."""

    def build(self) -> Metric:
        """Builds the metric."""
        metric: Metric = self.component.load_factory()(self.make_config())
        return metric

    def rows(self, seed: int = 0) -> ScoredRows:
        """Returns 120 rows of 15 users and 40 items with tied scores in (0, 1); ids are neither dense nor sorted."""
        generator = np.random.default_rng(seed)
        user = generator.choice(np.arange(100, 1600, 100), size=120)
        label = generator.integers(0, 2, size=120).astype(np.int8)
        score = np.clip(np.round(0.3 * label + generator.random(120), 1), 0.05, 0.95)
        item = generator.choice(np.arange(5, 405, 10), size=120)
        rows = ScoredRows(
            user=user,
            label=label,
            score=score,
            item=item,
            timestamp=1_500_000_000 + generator.integers(0, 10**7, size=120),
            user_train_rows=user // 100 % 6,
            item_train_rows=7 * item % 23,
        )
        return self._with_scores(rows, score)

    def _with_scores(self, rows: ScoredRows, score: np.ndarray[Any, Any]) -> ScoredRows:
        """Returns the rows with other scores; ranked by them where the metric measures lists alone."""
        if "rows" in self.component.measures:
            return replace(rows, score=score)
        order = np.lexsort((-score, rows.user))
        _, start, n = np.unique(rows.user[order], return_index=True, return_counts=True)
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order)) - np.repeat(start, n) + 1
        return replace(rows, score=-rank.astype(np.float64), rank=rank, candidates=np.full(len(rank), 40))

    def test_value_counts_and_direction(self) -> None:
        """A value is finite and counts what it averages over; better scores give the better value.

        Of a metric with `reads_labels = False`, other labels give the same value.
        """
        metric, rows = self.build(), self.rows()
        expect(metric.unit in ("rows", "users"), f"unit '{metric.unit}' must be 'rows' or 'users'")
        value = self._value(metric, rows)
        limit = len(rows.user) if metric.unit == "rows" else len(np.unique(rows.user))
        n_used = metric.compute(rows).n
        expect(0 < n_used <= limit, f"n={n_used} of {limit} {metric.unit}")
        if not getattr(metric, "reads_labels", True):
            other = self._value(metric, replace(rows, label=1 - rows.label))
            expect(abs(other - value) <= TOLERANCE, f"reads_labels=False, but other labels turn {value} into {other}")
            return
        perfect = self._value(metric, self._with_scores(rows, 0.05 + 0.9 * rows.label))
        wrong = self._value(metric, self._with_scores(rows, 0.95 - 0.9 * rows.label))
        best, worst = (perfect, wrong) if metric.higher_is_better else (wrong, perfect)
        expect(
            worst <= value <= best and worst < best,
            f"higher_is_better={metric.higher_is_better}, but perfect scores give {perfect}, these {value}, "
            f"wrong ones {wrong}",
        )

    def test_order_of_rows_and_names_of_users_do_not_matter(self) -> None:
        """Shuffled rows and renamed users give the same value."""
        metric, rows = self.build(), self.rows()
        order = np.random.default_rng(1).permutation(len(rows.user))
        shuffled = _take(rows, order, user=-7 * rows.user[order])
        one, two = self._value(metric, rows), self._value(metric, shuffled)
        expect(abs(one - two) <= TOLERANCE, f"value {one} became {two} after shuffling rows and renaming users")

    def test_names_of_items_do_not_matter(self) -> None:
        """Renamed items give the same value."""
        metric, rows = self.build(), self.rows()
        assert rows.item is not None
        one, two = self._value(metric, rows), self._value(metric, replace(rows, item=3 - 2 * rows.item))
        expect(abs(one - two) <= TOLERANCE, f"value {one} became {two} after renaming items")

    def test_what_is_not_known_is_no_crash(self) -> None:
        """Without items, times or training counts there is a value, or none with a reason and NaN resamples."""
        metric, rows = self.build(), self.rows()
        weights = np.ones((2, len(np.unique(rows.user))), dtype=np.int64)
        for name in OPTIONAL:
            absent: dict[str, Any] = {name: None}
            found = metric.compute(replace(rows, **absent))
            _check_null_or_number(found, f"without {name}")
            if found.value is None:
                resampled = metric.resample(replace(rows, **absent), weights)
                expect(bool(np.isnan(resampled).all()), f"without {name}: no value, but resamples {resampled}, not NaN")

    def test_label_reads_back(self) -> None:
        """The name in results, e.g. `ndcg@10`, read as an entry of `evaluate.metrics` gives the settings again."""
        config = self.make_config()
        assert isinstance(config, MetricConfig)
        if any(locations(config, "metric")):
            return  # a label does not tell where a file lies
        label = metric_label(config)
        name, settings = parse_metric(label)
        read = component_config(self.component, settings, self.known_components())
        expect(name == config.name and read == config, f"label {label} reads as {read}, which is not {config}")

    def test_nan_and_infinite_scores_are_errors(self) -> None:
        """A score that is not a number raises DataError, in `compute` and in `resample`."""
        metric, rows = self.build(), self.rows()
        weights = np.ones((1, len(np.unique(rows.user))), dtype=np.int64)
        for bad in (np.nan, np.inf, -np.inf):
            score = rows.score.copy()
            score[5] = bad
            broken = replace(rows, score=score)
            expect(_refuses(lambda rows=broken: metric.compute(rows)), f"compute accepted the score {bad}")
            expect(_refuses(lambda rows=broken: metric.resample(rows, weights)), f"resample accepted the score {bad}")

    def test_no_usable_rows_is_null_with_a_reason(self) -> None:
        """No rows give value None, n = 0 and a reason; one class gives a number or a reason, never NaN."""
        metric, rows = self.build(), self.rows()
        nothing = _take(rows, np.arange(0), user=rows.user[:0])
        found = metric.compute(nothing)
        expect(
            found.value is None and found.n == 0 and bool(found.reason),
            f"without rows: {found}; asked are value=None, n=0 and a reason",
        )
        for label in (0, 1):
            found = metric.compute(replace(rows, label=np.full_like(rows.label, label)))
            _check_null_or_number(found, f"with all labels {label}")
        resampled = metric.resample(rows, np.zeros((2, len(np.unique(rows.user))), dtype=np.int64))
        expect(bool(np.isnan(resampled).all()), f"resamples without any user gave {resampled}; asked is NaN")

    def test_resampling_equals_repeating_rows(self) -> None:
        """A user drawn k times counts as k users with the same rows; all ones give `compute`."""
        metric, rows = self.build(), self.rows()
        users, index = np.unique(rows.user, return_inverse=True)
        drawn = np.random.default_rng(2).integers(0, 4, size=(6, len(users)))
        weights = np.concatenate([np.ones((1, len(users)), dtype=np.int64), drawn])
        found = metric.resample(rows, weights)
        expect(found.shape == (7,), f"resample returned shape {found.shape}; asked is (7,)")
        for place, weight in enumerate(weights):
            copies = [(copy, np.flatnonzero(weight[index] > copy)) for copy in range(4)]
            taken = np.concatenate([positions for _, positions in copies])
            names = np.concatenate([rows.user[positions] + 10_000 * copy for copy, positions in copies])
            wanted = self._value(metric, _take(rows, taken, user=names))
            fault = f"resample {place} gave {found[place]}, repeating the drawn users' rows gives {wanted}"
            expect(abs(found[place] - wanted) <= TOLERANCE, fault)

    def _value(self, metric: Metric, rows: ScoredRows) -> float:
        found = metric.compute(rows)
        expect(found.value is not None, f"no value on usable rows: {found.reason}")
        return float(found.value)  # type: ignore[arg-type]


def _take(rows: ScoredRows, positions: np.ndarray[Any, Any], *, user: np.ndarray[Any, Any]) -> ScoredRows:
    given = {name: getattr(rows, name) for name in (*OPTIONAL, "rank", "candidates")}
    optional = {name: values[positions] for name, values in given.items() if values is not None}
    return ScoredRows(user=user, label=rows.label[positions], score=rows.score[positions], **optional)


def _check_null_or_number(found: MetricValue, where: str) -> None:
    if found.value is None:
        expect(found.n == 0 and bool(found.reason), f"{where}: {found}; a null needs n=0 and a reason")
    else:
        expect(bool(np.isfinite(found.value)), f"{where}: value {found.value} is not finite")


def _refuses(call: Any) -> bool:
    try:
        call()
    except DataError:
        return True
    return False
