"""Scoring in turn: every row once, and the same bits for any number of processes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from process_fakes import in_group

from collm.engine.shares import n_idle_turns, score_batches
from collm.errors import RunError
from collm.process_group import SINGLE, ProcessGroup

BATCHES = [np.array([4, 0]), np.array([1]), np.array([5, 2, 3])]
VALUES = torch.linspace(-2, 2, 6) ** 3


@pytest.mark.parametrize("size", [2, 3, 5])
def test_all_processes_get_the_scores_of_one(size: int) -> None:
    alone = score_batches(lambda rows: VALUES[rows], BATCHES, 6, processes=SINGLE)
    assert np.array_equal(alone, VALUES.numpy())
    for scores in in_group(
        lambda processes: score_batches(lambda rows: VALUES[rows], BATCHES, 6, processes=processes), size
    ):
        assert np.array_equal(scores, alone)


@pytest.mark.parametrize("size", [2, 5])
def test_with_split_weights_all_run_the_model_equally_often_and_repeats_do_not_count(size: int) -> None:
    calls = np.zeros(size, dtype=int)

    def work(processes: ProcessGroup) -> Any:
        def score(rows: np.ndarray) -> torch.Tensor:
            calls[processes.index] += 1
            return VALUES[rows]

        return score_batches(score, BATCHES, 6, processes=processes)

    for scores in in_group(work, size, shards=True):
        assert np.array_equal(scores, VALUES.numpy())
    assert set(calls) == {-(-len(BATCHES) // size)}


def test_nan_stays_nan() -> None:
    values = torch.tensor([1.0, float("nan"), 2.0])
    batches = [np.array([0]), np.array([1]), np.array([2])]
    for scores in in_group(
        lambda processes: score_batches(lambda rows: values[rows], batches, 3, processes=processes), 2
    ):
        assert np.array_equal(scores, values.numpy(), equal_nan=True)


@pytest.mark.parametrize("batches", [[np.array([0, 1])], [np.array([0, 1]), np.array([1, 2])]])
def test_a_row_missing_or_twice_is_an_error(batches: list[np.ndarray]) -> None:
    with pytest.raises(RunError, match="1 of 3 rows were not scored exactly once"):
        score_batches(lambda rows: VALUES[rows], batches, 3, processes=SINGLE)


def test_idle_turns_fill_up_to_the_first_process() -> None:
    class Place(ProcessGroup):
        def __init__(self, index: int, size: int) -> None:
            self.index, self.size = index, size

    assert [n_idle_turns(7, Place(index, 3)) for index in range(3)] == [0, 1, 1]
    assert [n_idle_turns(2, Place(index, 4)) for index in range(4)] == [0, 0, 1, 1]
    assert [n_idle_turns(0, Place(index, 2)) for index in range(2)] == [0, 0]
