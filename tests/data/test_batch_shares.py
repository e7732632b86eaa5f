"""Dealing the micro-batches of a global batch out: every one once, about equal work, the same deal everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from collm.data.batches import deal


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
