"""Which rows appear together in training and selection: permutations, chunks of one prefix, whole users."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collm.data.batches import shuffled_in_chunks
from collm.data.prepared import Rows
from collm.engine.device import derive_seed
from collm.engine.encoder_task import validation_auc
from collm.engine.language_task import selection_rows
from collm.engine.prompt_rows import PromptRows, group_rows
from collm.errors import DataError, RunError


def rows(n: int) -> Rows:
    index = np.arange(n)
    return Rows(index // 5 + 1, index + 1, (index % 2).astype(np.int8), index, index + 100, index)


@given(groups=st.lists(st.integers(0, 6), max_size=60), size=st.integers(1, 5), seed=st.integers(0, 99))
def test_chunks_are_a_permutation_and_keep_rows_of_a_group_together(groups: list[int], size: int, seed: int) -> None:
    group = np.array(groups, dtype=np.int64)
    order = shuffled_in_chunks(group, np.random.default_rng(seed), size)
    assert sorted(order.tolist()) == list(range(len(group)))
    changes = np.count_nonzero(np.diff(group[order])) + 1 if len(group) else 0
    n_chunks = sum(-(-count // size) for count in np.unique(group, return_counts=True)[1])
    assert changes <= n_chunks


def test_chunk_size_one_spreads_a_group_over_the_epoch() -> None:
    group = np.repeat([0, 1], 500)
    order = shuffled_in_chunks(group, np.random.default_rng(0), 1)
    first_half = np.count_nonzero(group[order[:500]] == 0)
    assert 200 < first_half < 300


def test_group_rows_gives_equal_keys_one_number() -> None:
    groups = group_rows(np.array([[1, 2], [3, 4], [1, 2]]))
    assert groups[0] == groups[2] != groups[1]
    assert len(group_rows(np.zeros((0, 3), dtype=np.int64))) == 0


def test_shared_tokens_of_a_micro_batch_count_once() -> None:
    # Rows 0 and 2 share 4 tokens and add 2 and 3; row 1 has 5 tokens of its own.
    prompts = SimpleNamespace(offsets=np.array([0, 6, 11, 18]), shared=np.array([4, 2, 4]), before_user=np.zeros(3))
    encoded = PromptRows(
        rows(3), prompts, prefix_group=np.array([7, 8, 7]), batchers={}, user_depends_on_item=False, device="cpu"
    )
    assert encoded.n_tokens(np.array([0, 1, 2])) == 4 + 2 + 3 + 5
    assert encoded.n_tokens(np.array([2])) == 7


def validation(n: int, **columns: np.ndarray) -> SimpleNamespace:
    """Prepared data with `n` validation rows and what its dataset adds to them."""
    return SimpleNamespace(rows=lambda split: {"valid": rows(n)}[split], optional_column=columns.get)


def test_selection_takes_what_a_dataset_published_or_says_that_there_is_nothing() -> None:
    published = np.arange(100) % 3 == 0
    chosen = selection_rows(validation(100, published_selection=published), "published", max_rows=None, seed=0)
    assert chosen.index.tolist() == np.flatnonzero(published).tolist()
    with pytest.raises(DataError, match=r"no published half.*use half, quarter or full"):
        selection_rows(validation(100), "published", max_rows=None, seed=0)


def test_selection_takes_half_and_whole_users() -> None:
    data = validation(100)
    assert len(selection_rows(data, "quarter", max_rows=None, seed=0)) == 25
    half = selection_rows(data, "half", max_rows=None, seed=0)
    assert len(half) == 50
    assert np.array_equal(half.row, np.sort(half.row))
    few = selection_rows(data, "full", max_rows=12, seed=0)
    assert len(few) >= 12
    assert all(np.count_nonzero(few.user == user) == 5 for user in np.unique(few.user))
    assert len(selection_rows(data, "full", max_rows=1000, seed=0)) == 100


def test_validation_needs_both_classes_and_finite_logits() -> None:
    with pytest.raises(RunError, match="hold one class only"):
        validation_auc(np.ones(3), np.zeros(3), what="tune_1")
    with pytest.raises(RunError, match="1 of 2 validation logits are not finite"):
        validation_auc(np.array([0, 1]), np.array([0.0, np.nan]), what="tune_1")
    assert validation_auc(np.array([0, 1, 1]), np.array([0.1, 0.1, 0.4]), what="x") == 0.75


def test_seeds_of_different_purposes_differ_and_repeat() -> None:
    assert derive_seed(0, "batches", 1) == derive_seed(0, "batches", 1)
    assert len({derive_seed(seed, label) for seed in range(20) for label in ("a", "b")}) == 40
