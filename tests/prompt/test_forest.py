from __future__ import annotations

import numpy as np

from collm.prompt.forest import forest_size, prefix_groups

PROMPTS = [[1, 2, 3, 9], [1, 2, 3, 8, 8], [1, 2, 4, 9], [1, 2, 3], [5, 6]]
IDS = np.concatenate(PROMPTS).astype(np.int32)
OFFSETS = np.concatenate([[0], np.cumsum([len(prompt) for prompt in PROMPTS])])


def test_rows_with_the_same_leading_tokens_form_a_group():
    assert prefix_groups(IDS, OFFSETS, np.array([3, 3, 3, 3, 0])).tolist() == [0, 0, 1, 0, 2]
    assert prefix_groups(IDS, OFFSETS, np.array([2, 2, 2, 2, 0])).tolist() == [0, 0, 0, 0, 1]


def test_an_equal_beginning_of_another_length_is_another_group():
    assert prefix_groups(IDS, OFFSETS, np.array([3, 2, 2, 3, 0])).tolist() == [0, 1, 1, 0, 2]


def test_what_fills_the_user_slot_must_agree_too():
    users, histories = np.array([7, 7, 7, 8, 8]), np.array([[1, 2], [1, 3], [1, 2], [1, 2], [0, 0]])
    shared = np.array([3, 3, 3, 3, 0])
    assert prefix_groups(IDS, OFFSETS, shared, [users]).tolist() == [0, 0, 1, 2, 3]
    assert prefix_groups(IDS, OFFSETS, shared, [users, histories]).tolist() == [0, 1, 2, 3, 4]


def test_size_counts_each_beginning_once():
    shared = np.array([3, 3, 3, 3, 0])
    size = forest_size(OFFSETS, shared, prefix_groups(IDS, OFFSETS, shared))
    assert (size.n_rows, size.n_groups, size.n_tokens) == (5, 3, 18)
    assert size.n_distinct == 3 + 3 + 0 + (1 + 2 + 1 + 0 + 2)


def test_no_rows():
    empty = np.zeros(0, dtype=np.int64)
    assert prefix_groups(empty, np.zeros(1, dtype=np.int64), empty).tolist() == []
    assert forest_size(np.zeros(1), empty, empty).n_distinct == 0
