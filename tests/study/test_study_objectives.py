from __future__ import annotations

import pytest
from study_fakes import outcome

from collm.study.study_file import Objective


def test_values_are_read_off_results() -> None:
    assert Objective("valid.auc", "all", "auc", "maximize").value(outcome(0.75).results) == 0.75
    assert Objective("valid.warm.auc", "warm", "auc", "maximize").value(outcome(0.5).results) == 0.5


def test_costs_count_reused_work_in_full() -> None:
    assert Objective("cost.fit_seconds", "", "", "minimize").value(outcome(0.7).results) == 7.0
    assert Objective("cost.seconds_per_sample", "", "", "minimize").value(outcome(0.7).results) == 1.0 / 50


def test_a_null_value_is_named_with_its_reason() -> None:
    with pytest.raises(ValueError, match=r"valid.auc has no value: one class only"):
        Objective("valid.auc", "all", "auc", "maximize").value(outcome(None).results)
