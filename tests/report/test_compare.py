"""Comparisons: agreement with textbook formulas, corrections, seeds, coverage of intervals."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats
from scipy.stats import norm

from collm.report.compare import Draws, compare_all, holm, mean_over_seeds, relative_improvement


def floor(mean: float, spread: float = 0.01, shared: np.ndarray | None = None, n: int = 2000) -> Draws:
    """A method that no seed changes."""
    return dataclasses.replace(draws([mean], spread, shared, n), seeds=())


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
    (found,) = compare_all({"a": floor(0.705), "b": floor(0.700)}, "auc")
    assert (found.first, found.second, found.metric) == ("a", "b", "auc")
    assert found.value == pytest.approx(0.005)
    assert found.low < 0.005 < found.high
    assert found.high - found.low < 0.002
    assert found.significant
    assert found.p < 1e-6


def test_interval_and_detectable_difference_follow_the_normal_formulas() -> None:
    gap = np.random.default_rng(5).normal(size=4000) * 0.01
    first, second = floor(0.71, shared=gap, n=4000), floor(0.70, shared=np.zeros(4000), n=4000)
    (found,) = compare_all({"a": first, "b": second}, "auc")
    assert found.low == pytest.approx(0.01 - 1.96 * 0.01, abs=0.001)
    assert found.high == pytest.approx(0.01 + 1.96 * 0.01, abs=0.001)
    assert found.detectable == pytest.approx((norm.ppf(0.975) + norm.ppf(0.8)) * 0.01, rel=0.05)
    assert found.p == pytest.approx(2 * norm.sf(1.0), abs=0.03)
    assert not found.significant


def test_equal_methods_are_not_told_apart_and_many_pairs_can_be() -> None:
    (same,) = compare_all({"a": floor(0.7), "b": floor(0.7)}, "auc")
    assert (same.value, same.p, same.significant) == (0.0, 1.0, False)
    many = compare_all({f"m{number}": floor(0.6 + 0.01 * number) for number in range(12)}, "auc")
    assert len(many) == 66
    assert all(each.significant for each in many)


def test_seeds_widen_the_interval() -> None:
    one = {"a": draws([0.71]), "b": draws([0.70])}
    several = {"a": draws([0.70, 0.71, 0.72]), "b": draws([0.70, 0.70, 0.70])}
    (narrow,), (wide,) = compare_all(one, "auc"), compare_all(several, "auc")
    assert narrow.value == pytest.approx(wide.value)
    assert wide.high - wide.low > 5 * (narrow.high - narrow.low)


def test_one_seed_is_not_tested() -> None:
    pairs = {"a": draws([0.9]), "b": draws([0.7, 0.71, 0.72]), "floor": floor(0.6)}
    found = {(each.first, each.second): each for each in compare_all(pairs, "auc")}
    for pair in (("a", "b"), ("a", "floor")):
        assert math.isnan(found[pair].p)
        assert math.isnan(found[pair].p_holm)
        assert math.isnan(found[pair].detectable)
        assert not found[pair].significant
        assert found[pair].low < found[pair].value < found[pair].high
    # Holm counts the pairs that are tested, here one.
    assert found["b", "floor"].p_holm == found["b", "floor"].p < 0.05


def test_seeds_that_differ_alone_are_a_t_test_on_their_differences() -> None:
    first, second = [0.72, 0.70, 0.74, 0.71], [0.70, 0.69, 0.71, 0.70]
    still = {
        name: Draws(np.array(values), np.tile(np.array(values)[:, None], 500), (3, 1, 4, 2))
        for name, values in (("a", first), ("b", second))
    }
    (found,) = compare_all(still, "auc")
    expected = stats.ttest_rel(first, second)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(expected.confidence_interval(0.95))


def test_seeds_are_paired_by_their_number_and_not_their_order() -> None:
    values = np.array([0.70, 0.75, 0.80])
    first = Draws(values, np.tile(values[:, None], 100), (0, 1, 2))
    second = Draws(values[::-1] - 0.01, np.tile(values[::-1, None] - 0.01, 100), (2, 1, 0))
    (found,) = compare_all({"a": first, "b": second}, "auc")
    assert found.value == pytest.approx(0.01)
    assert found.high - found.low == pytest.approx(0, abs=1e-9)


def test_other_seeds_are_welchs_t_test() -> None:
    first, second = [0.72, 0.70, 0.74, 0.71], [0.70, 0.66, 0.71]
    still = {
        name: Draws(np.array(values), np.tile(np.array(values)[:, None], 500), seeds)
        for name, values, seeds in (("a", first, (0, 1, 2, 3)), ("b", second, (4, 5, 6)))
    }
    (found,) = compare_all(still, "auc")
    expected = stats.ttest_ind(first, second, equal_var=False)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(expected.confidence_interval(0.95))


def test_users_shared_by_seeds_count_once_and_users_of_a_seed_with_their_seed() -> None:
    generator = np.random.default_rng(3)
    shared, own = generator.normal(size=4000) * 0.02, generator.normal(size=(3, 4000)) * 0.03
    values = np.array([0.70, 0.71, 0.72])
    method = Draws(values, values[:, None] + shared + own, (0, 1, 2))
    estimate = mean_over_seeds(method)
    assert estimate is not None
    assert estimate.user_variance == pytest.approx(0.02**2, rel=0.15)
    assert estimate.seed_variance == pytest.approx(np.var(values, ddof=1) / 3)
    assert estimate.seed_df == 2


def test_undefined_draws_are_left_out() -> None:
    empty = Draws(np.array([0.5]), np.full((1, 2000), np.nan), (0,))
    assert compare_all({"a": draws([0.7]), "b": empty}, "auc") == []
    assert mean_over_seeds(empty) is None


def test_relative_improvement_is_the_papers() -> None:
    collm, mf = {"auc": 0.7295, "uauc": 0.6875}, {"auc": 0.6482, "uauc": 0.6361}
    assert relative_improvement(collm, mf) == pytest.approx(0.103, abs=0.0005)
    assert relative_improvement(collm, {"auc": 0.7097, "uauc": 0.6818}) == pytest.approx(0.018, abs=0.0005)
    assert relative_improvement(collm, {"auc": 0.7}) is None


def test_few_users_who_agree_give_no_difference() -> None:
    def flat(value: float, n_units: int) -> Draws:
        return Draws(np.array([value]), np.full((1, 50), value), (), np.full((1, n_units), value), n_units)

    assert compare_all({"a": flat(1.0, 5), "b": flat(0.5, 5)}, "auc") == []
    (found,) = compare_all({"a": flat(1.0, 6), "b": flat(0.5, 6)}, "auc")
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_an_interval_of_differences_ends_where_the_metric_does() -> None:
    wide = {"a": draws([0.9], spread=5.0), "b": draws([0.1], shared=np.zeros(2000))}
    (open_,), (cut,) = compare_all(wide, "auc"), compare_all(wide, "auc", widest=1.0)
    assert open_.low < -1.0
    assert open_.high > 1.0
    assert (cut.low, cut.high) == (-1.0, 1.0)
