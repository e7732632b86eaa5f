"""Batches hold every row once within their budget; micro-batches are dealt out with about equal work."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from padding import padding_share

from collm.data.batches import deal, grouped_batches, like_sized_batches, token_budget_batches

LENGTHS = np.random.default_rng(0).integers(60, 300, 5_000)


def assert_every_row_once(batches, n):
    assert sorted(np.concatenate(batches).tolist()) == list(range(n))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=80),
    budget=st.integers(1, 200),
    max_rows=st.none() | st.integers(1, 5),
)
def test_every_row_once_within_the_budget(lengths, budget, max_rows):
    lengths = np.array(lengths)
    batches = token_budget_batches(lengths, max_tokens=budget, max_rows=max_rows)
    assert_every_row_once(batches, len(lengths))
    for rows in batches:
        assert len(rows) == 1 or len(rows) * lengths[rows].max() <= budget
        assert max_rows is None or len(rows) <= max_rows


def test_padding_stays_under_three_percent():
    batches = token_budget_batches(LENGTHS, max_tokens=4096)
    assert padding_share(LENGTHS, batches) < 0.03
    random_rows = np.array_split(np.random.default_rng(1).permutation(5_000), len(batches))
    assert padding_share(LENGTHS, random_rows) > 0.3


def test_no_rows_give_no_batches():
    assert token_budget_batches(np.zeros(0, dtype=np.int64), max_tokens=10) == []
    assert grouped_batches(np.zeros(0), np.zeros(0), np.zeros(0), max_tokens=10) == []


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    rows=st.lists(st.tuples(st.integers(0, 6), st.integers(1, 20)), min_size=1, max_size=60), budget=st.integers(1, 200)
)
def test_groups_stand_together_and_shared_tokens_count_once(rows, budget):
    groups = np.array([group for group, _ in rows])
    shared = groups * 7
    lengths = shared + np.array([own for _, own in rows])
    batches = grouped_batches(lengths, shared, groups, max_tokens=budget)
    assert_every_row_once(batches, len(rows))
    for batch in batches:
        distinct = sum(int(shared[batch][groups[batch] == g][0]) for g in set(groups[batch].tolist()))
        distinct += int((lengths - shared)[batch].sum())
        assert len(batch) == 1 or distinct <= budget
        changes = np.flatnonzero(np.diff(groups[batch]))
        assert len(changes) + 1 == len(set(groups[batch].tolist()))


def test_a_group_above_the_budget_is_split():
    batches = grouped_batches(np.full(10, 8), np.full(10, 5), np.zeros(10), max_tokens=14)
    assert [len(rows) for rows in batches] == [3, 3, 3, 1]


def test_like_sized_batches_hold_every_row_once_with_little_padding():
    for seed in range(3):
        batches = like_sized_batches(LENGTHS, size=32, generator=np.random.default_rng(seed))
        assert_every_row_once(batches, len(LENGTHS))
        assert sorted({len(rows) for rows in batches}) == [5_000 % 32, 32]
        assert padding_share(LENGTHS, batches) < 0.03
    assert like_sized_batches(LENGTHS[:0], size=4, generator=np.random.default_rng(0)) == []


def test_like_sized_batches_are_no_worse_a_sample_than_shuffled_rows():
    # Label and length go together, as they may: longer histories belong to other users.
    generator = np.random.default_rng(1)
    labels = (generator.random(len(LENGTHS)) < 0.3 + 0.3 * (LENGTHS > 180)).astype(float)
    first, place = [], np.zeros(len(LENGTHS))
    for seed in range(200):
        batches = like_sized_batches(LENGTHS, size=32, generator=np.random.default_rng(seed))
        first.append(labels[batches[0]].mean())
        place[np.concatenate(batches)] += np.arange(len(LENGTHS))
    # Any step sees every label as often as the data do, and any row may come early or late.
    error = np.std(first) / np.sqrt(len(first))
    assert abs(np.mean(first) - labels.mean()) < 4 * error
    assert np.abs(place / 200 / len(LENGTHS) - 0.5).max() < 5 * 0.29 / np.sqrt(200)


def test_one_process_gets_everything_in_order() -> None:
    assert deal([5, 9, 2], 1) == [[0, 1, 2]]


def test_by_hand() -> None:
    # 9 goes to the first, 7 and 4 to the second, 3 to the first.
    assert deal([3, 7, 9, 4], 2) == [[0, 2], [1, 3]]


def test_with_fewer_pieces_than_processes_some_get_nothing() -> None:
    assert deal([4], 3) == [[0], [], []]
    assert deal([], 2) == [[], []]


@pytest.mark.parametrize("n_processes", [2, 3, 8])
def test_every_piece_is_dealt_once_and_nobody_has_more_than_a_piece_too_much(n_processes: int) -> None:
    generator = np.random.default_rng(n_processes)
    for _ in range(50):
        costs = generator.integers(0, 4096, int(generator.integers(0, 30))).tolist()
        shares = deal(costs, n_processes)
        assert len(shares) == n_processes
        assert sorted(piece for share in shares for piece in share) == list(range(len(costs)))
        loads = [sum(costs[piece] for piece in share) for share in shares]
        assert max(loads) - min(loads) <= max(costs, default=0)
        assert shares == deal(costs, n_processes)


def test_pieces_without_cost_are_spread() -> None:
    assert [len(share) for share in deal([0] * 6, 3)] == [2, 2, 2]
