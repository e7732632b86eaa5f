"""The suite must catch faults: each broken metric fails the test that is about its fault, in words that name it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from collm.component import Component
from collm.contracts.metric import MetricConfig, MetricValue
from collm.metrics.classification import area_under_curve
from collm.testing.metric_suite import MetricContract
from collm_metrics.metrics import AreaUnderCurve


class WrongDirection(AreaUnderCurve):
    higher_is_better = False


class AcceptsNan(AreaUnderCurve):
    def compute(self, rows):
        return super().compute(replace(rows, score=np.nan_to_num(rows.score)))


class NanForNothing(AreaUnderCurve):
    def compute(self, rows):
        return MetricValue(area_under_curve(rows.label, rows.score), len(rows.label))


class IgnoresWeights(AreaUnderCurve):
    def resample(self, rows, user_weights):
        return np.full(len(user_weights), super().compute(rows).value)


class ReadsOrder(AreaUnderCurve):
    def compute(self, rows):
        found = super().compute(rows)
        return found if found.value is None else replace(found, value=found.value - 1e-6 * int(rows.label[0]))


class ReadsNamesOfItems(AreaUnderCurve):
    def compute(self, rows):
        found = super().compute(rows)
        if found.value is None or rows.item is None:
            return found
        return replace(found, value=found.value - 1e-6 * int(rows.item.min() > 0))


class NeedsItems(AreaUnderCurve):
    def compute(self, rows):
        return replace(super().compute(rows), n=rows.item.size)


class SaysThatItReadsNoLabels(AreaUnderCurve):
    reads_labels = False


def suite_of(kind: type) -> MetricContract:
    class Suite(MetricContract):
        component = Component(
            kind="metric", name="broken", factory="nowhere:build", config=MetricConfig, summary="A metric of this test."
        )

        def build(self):
            return kind()

    return Suite()


@pytest.mark.parametrize(
    ("kind", "test", "message"),
    [
        (WrongDirection, "value_counts_and_direction", "higher_is_better=False, but perfect scores give 1.0"),
        (AcceptsNan, "nan_and_infinite_scores_are_errors", "compute accepted the score nan"),
        (NanForNothing, "no_usable_rows_is_null_with_a_reason", "without rows: .*asked are value=None"),
        (IgnoresWeights, "resampling_equals_repeating_rows", "resample 1 gave .*repeating the drawn users' rows gives"),
        (ReadsNamesOfItems, "names_of_items_do_not_matter", "after renaming items"),
        (SaysThatItReadsNoLabels, "value_counts_and_direction", "reads_labels=False, but other labels turn"),
        (ReadsOrder, "order_of_rows_and_names_of_users_do_not_matter", "after shuffling rows"),
    ],
)
def test_broken_metrics_are_named(kind, test, message):
    with pytest.raises(AssertionError, match=message):
        getattr(suite_of(kind), f"test_{test}")()


def test_a_metric_that_needs_what_is_not_known_is_named():
    with pytest.raises(AttributeError):
        suite_of(NeedsItems).test_what_is_not_known_is_no_crash()


def test_a_label_that_reads_as_other_settings_is_named(monkeypatch):
    monkeypatch.setattr("collm.testing.metric_suite.metric_label", lambda config: "other")
    with pytest.raises(AssertionError, match="label other reads as"):
        suite_of(AreaUnderCurve).test_label_reads_back()
