from __future__ import annotations

import pytest
from study_fakes import results

from collm.study.study_file import Objective


def test_values_are_read_off_results() -> None:
    assert Objective("valid.auc", "all", "auc", "maximize").value(results(0.75)) == 0.75
    assert Objective("valid.warm.auc", "warm", "auc", "maximize").value(results(0.5)) == 0.5


def test_costs_count_reused_work_in_full() -> None:
    assert Objective("cost.fit_seconds", "", "", "minimize").value(results(0.7)) == 7.0
    assert Objective("cost.seconds_per_sample", "", "", "minimize").value(results(0.7)) == 1.0 / 50


@pytest.mark.parametrize(
    ("value", "reason"), [(None, "has no value: one class only"), (float("nan"), "is nan"), (float("inf"), "is inf")]
)
def test_a_value_that_is_none_is_named(value: float | None, reason: str) -> None:
    with pytest.raises(ValueError, match=f"valid.auc {reason}"):
        Objective("valid.auc", "all", "auc", "maximize").value(results(value))
