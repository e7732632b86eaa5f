"""Comparisons: agreement with textbook formulas, corrections, seeds, coverage of intervals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from collm.report.compare import Draws, compare_all, holm, mean_over_seeds, relative_improvement


def draws(means: list[float], spread: float = 0.01, shared: np.ndarray | None = None, n: int = 2000) -> Draws:
    common = np.random.default_rng(0).normal(size=n) * spread if shared is None else shared
    own = np.random.default_rng(int(1e6 * means[0])).normal(size=(len(means), n)) * 1e-4
    return Draws(np.array(means), np.array(means)[:, None] + common + own, tuple(range(len(means))))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_pairing_removes_what_methods_share() -> None:
    # Both move by the same 0.01 per resample; the difference of 0.005 is certain all the same.
    (found,) = compare_all({"a": draws([0.705]), "b": draws([0.700])}, "auc")
    assert (found.first, found.second, found.metric) == ("a", "b", "auc")
    assert found.value == pytest.approx(0.005)
    assert found.low < 0.005 < found.high
    assert found.high - found.low < 0.002
    assert found.significant
    assert found.p < 1e-6


def test_interval_and_detectable_difference_follow_the_normal_formulas() -> None:
    gap = np.random.default_rng(5).normal(size=4000) * 0.01
    first, second = draws([0.71], shared=gap, n=4000), draws([0.70], shared=np.zeros(4000), n=4000)
    (found,) = compare_all({"a": first, "b": second}, "auc")
    assert found.low == pytest.approx(0.01 - 1.96 * 0.01, abs=0.001)
    assert found.high == pytest.approx(0.01 + 1.96 * 0.01, abs=0.001)
    assert found.detectable == pytest.approx((norm.ppf(0.975) + norm.ppf(0.8)) * 0.01, rel=0.05)
    assert found.p == pytest.approx(2 * norm.sf(1.0), abs=0.03)
    assert not found.significant


def test_equal_methods_are_not_told_apart_and_many_pairs_can_be() -> None:
    (same,) = compare_all({"a": draws([0.7]), "b": draws([0.7])}, "auc")
    assert (same.value, same.p, same.significant) == (0.0, 1.0, False)
    many = compare_all({f"m{number}": draws([0.6 + 0.01 * number]) for number in range(12)}, "auc")
    assert len(many) == 66
    assert all(each.significant for each in many)


def test_seeds_widen_the_interval() -> None:
    one = {"a": draws([0.71]), "b": draws([0.70])}
    several = {"a": draws([0.70, 0.71, 0.72]), "b": draws([0.70, 0.70, 0.70])}
    (narrow,), (wide,) = compare_all(one, "auc"), compare_all(several, "auc")
    assert narrow.value == pytest.approx(wide.value)
    assert wide.high - wide.low > 5 * (narrow.high - narrow.low)


def test_undefined_draws_are_left_out() -> None:
    empty = Draws(np.array([0.5]), np.full((1, 2000), np.nan), (0,))
    assert compare_all({"a": draws([0.7]), "b": empty}, "auc") == []
    assert mean_over_seeds(empty) is None


def test_relative_improvement_is_the_papers() -> None:
    collm, mf = {"auc": 0.7295, "uauc": 0.6875}, {"auc": 0.6482, "uauc": 0.6361}
    assert relative_improvement(collm, mf) == pytest.approx(0.103, abs=0.0005)
    assert relative_improvement(collm, {"auc": 0.7097, "uauc": 0.6818}) == pytest.approx(0.018, abs=0.0005)
    assert relative_improvement(collm, {"auc": 0.7}) is None
