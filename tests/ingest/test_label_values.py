"""Values of ratings and labels: which words are likes, which numbers may mean that there is no rating."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collm.ingest.label_values import labels_of, numbers_of, odd_values, rare_class, shown_counts
from collm.scaffold.guess_values import guess_rating, looks_like_counts


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (["1", "0"], [1, 0]),
        ([1, -1], [1, 0]),
        (["+1", "-1", "1.0", "-1.0"], [1, 0, 1, 0]),
        ([1.0, -1.0], [1, 0]),
        ([True, False, None], [1, 0, None]),
        (["yes", "NO", " Yes "], [1, 0, 1]),
        (["Y", "n", ""], [1, 0, None]),
        (["t", "f"], [1, 0]),
        (["like", "Dislike", "LIKED"], [1, 0, 1]),
        (["thumbs_up", "thumbs-down", "Not Recommended"], [1, 0, 0]),
        (["1,0", "0,0"], [1, 0]),
        ([1, 0, -1], [1, None, 0]),  # 0 between -1 and 1 is neither
        ([1, 2], [1, None]),
        (["good", "meh"], [1, None]),
    ],
)
def test_likes_and_dislikes(values: list[Any], labels: list[int | None]) -> None:
    assert labels_of(pl.Series(values)).to_list() == labels


@pytest.mark.parametrize(
    ("counts", "odd"),
    [
        ({0: 60, 1: 5, 5: 20, 10: 15}, [0]),
        ({0: 5, 1: 10, 5: 20, 10: 15}, []),  # a scale from 0 on
        ({0: 50, 0.5: 10, 5: 20}, []),
        ({0: 50, 1: 50}, []),
        ({-1: 20, 1: 10, 10: 30}, [-1]),
        ({-1: 20, 0: 1, 5: 30, 3: 1}, [-1]),
        ({-1: 50, 1: 50}, []),
        ({-10: 5, -1: 5, 3: 5, 10: 5, 99: 30}, [99]),
        ({1: 5, 5: 5, 99: 3, 0: 6}, [0, 99]),
        ({98: 1, 99: 5, 100: 5, 1: 1}, []),
        ({1: 5}, []),
        ({}, []),
    ],
)
def test_values_that_may_mean_not_rated(counts: dict[float, int], odd: list[float]) -> None:
    ratings = pl.Series([float(value) for value, n in counts.items() for _ in range(n)], dtype=pl.Float64)
    assert [each.value for each in odd_values(ratings)] == odd


@given(st.lists(st.sampled_from([1.0, 2.0, 3.0, 4.0, 5.0]), min_size=1, max_size=50))
def test_a_plain_scale_is_never_odd(ratings: list[float]) -> None:
    assert odd_values(pl.Series(ratings)) == []


def test_classes_under_two_percent() -> None:
    assert rare_class(20, 1000) == ""
    assert rare_class(980, 1000) == ""
    assert rare_class(19, 1000) == "only 19 of 1,000 rows (1.9%) are positive: look at the label rule"
    assert "are negative" in rare_class(1000, 1000)
    assert rare_class(0, 0) == ""


def test_numbers_and_counts_in_words() -> None:
    assert numbers_of(pl.Series(["4,5", " 3 ", "x", "nan", None])).to_list() == [4.5, 3.0, None, None, None]
    assert numbers_of(pl.Series(["inf", "-Infinity", "1"])).to_list() == [None, None, 1.0]
    assert numbers_of(pl.Series([float("inf"), float("nan"), 1.0, None])).to_list() == [None, None, 1.0, None]
    assert numbers_of(pl.Series([1, None])).to_list() == [1.0, None]
    assert shown_counts(pl.Series(["10", "9", "10", None])) == "9 (1), 10 (2), nothing (1)"
    assert shown_counts(pl.Series(["b", "a", "b"])) == "b (2), a (1)"
    assert shown_counts(pl.Series([float(n) for n in range(20)])).endswith(", ...")


@pytest.mark.parametrize(
    ("name", "numbers", "are_counts"),
    [
        ("plays", [1, 2, 3], True),
        ("play_count", [1, 2, 500], True),
        ("rating", [1, 1, 2, 1, 300], True),
        ("rating", [1, 5, 3, 4], False),
        ("score", [10, 50, 90, 100], False),
        ("plays", [1, 1, 1], False),
        ("plays", [0.5, 2.5], False),
        ("plays", [-1, 5], False),
    ],
)
def test_counts(name: str, numbers: list[float], are_counts: bool) -> None:
    assert looks_like_counts(name, pl.Series(numbers, dtype=pl.Float64)) is are_counts


@pytest.mark.parametrize(
    ("ratings", "above", "unrated", "warning"),
    [
        (
            [0] * 60 + [2, 4, 8, 10] * 10,
            6,
            (0.0,),
            "the rating 0 of 60 rows (60%) lies apart from the others (2 to 10)",
        ),
        ([-1] * 10 + [1, 5] * 10, 3, (-1.0,), "may mean 'not rated'"),
        ([0] + [1, 5] * 10, 3, (), "1 ratings are 0 and count as a low rating"),
        ([-1, 1] * 10, 0, (), ""),
        ([-1, 0, 1] * 10, 0, (), "10 ratings are 0, between dislikes and likes, and count as a low rating"),
        ([1] * 10, 0, (), "positives only"),
        ([2] * 99 + [5], 3, (), "only 1 of 100 rows (1.0%) are positive"),
        ([1, 1, 2, 3, 500], 2, (), "looks like counts of use"),
    ],
)
def test_rules(ratings: list[float], above: float, unrated: tuple[float, ...], warning: str) -> None:
    guess = guess_rating(pl.Series("rating", ratings, dtype=pl.Float64))
    assert guess.not_rated == unrated
    assert warning in " ".join(guess.warnings)
    if warning != "positives only":
        assert guess.positive_above == above
    if not warning:
        assert guess.warnings == ()
