"""Ranks in blocks against a plain sort of every list."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from collm.data.candidates import ItemLists
from collm.engine import ranking
from collm.engine.ranking import CatalogueRanking, FactorScores, PairScores, Ranks, Ties, rank_lists
from collm.errors import RunError

Array = np.ndarray[Any, Any]


class TableScores:
    """Scores of a table [n_lists, n_items + 1], in blocks of any size."""

    def __init__(self, table: Array, lists: int, items: int) -> None:
        self._table, self.lists_per_block, self.items_per_block = table, lists, items

    def __call__(self, lists: slice, items: slice) -> torch.Tensor:
        return torch.from_numpy(self._table[lists, items].copy())


def sorted_ranks(table: Array, chosen: ItemLists, left_out: ItemLists, ties: Ties, depth: int) -> tuple[Array, Array]:
    """Ranks of the chosen items and the best of every list, written out."""
    ranks, best = [], []
    for place in range(len(table)):
        items = np.setdiff1d(np.arange(1, table.shape[1]), left_out[place])
        keys = ties.keys(np.full(len(items), place), items)
        order = items[np.lexsort((keys, -table[place, items]))].tolist()
        ranks += [order.index(item) + 1 for item in chosen[place]]
        best.append((order + [0] * depth)[:depth])
    return np.array(ranks), np.array(best)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_blocks_give_the_ranks_of_a_plain_sort(seed: int, sorts: bool) -> None:
    draw = np.random.default_rng(seed)
    n_lists, n_items, depth = draw.integers(1, 9), draw.integers(2, 40), int(draw.integers(1, 15))
    table = draw.integers(0, draw.integers(1, 30), size=(n_lists, n_items + 1)).astype(np.float32)
    orders = [draw.permutation(n_items) + 1 for _ in range(n_lists)]
    n_chosen = [int(draw.integers(1, n_items + 1)) for _ in orders]
    chosen = ItemLists.of([np.sort(each[:n]) for each, n in zip(orders, n_chosen, strict=True)])
    left = [each[n : n + draw.integers(0, n_items - n + 1)] for each, n in zip(orders, n_chosen, strict=True)]
    left_out, ties = ItemLists.of([np.sort(each) for each in left]), Ties.drawn(np.arange(n_lists), seed=seed)
    scores = TableScores(table, int(draw.integers(1, 5)), int(draw.integers(1, 20)))
    many = pytest.MonkeyPatch()
    many.setattr(ranking, "MANY_CHOSEN", 0 if sorts else 10**6)
    found = CatalogueRanking(scores, int(n_items), chosen, left_out, ties, depth).ranks()
    many.undo()
    ranks, best = sorted_ranks(table, chosen, left_out, ties, depth)
    assert found.chosen_rank.tolist() == ranks.tolist()
    assert found.top.tolist() == best.tolist()
    assert found.n_candidates.tolist() == [n_items - len(each) for each in left]
    group = chosen.group
    assert found.chosen_score.tolist() == table[group, chosen.items].tolist()
    levels = [
        (table[g] == table[g, i]) & ~np.isin(np.arange(n_items + 1), left[g])
        for g, i in zip(group, chosen.items, strict=True)
    ]
    assert found.n_tied == sum(each[1:].sum() > 1 for each in levels)


def catalogue(scores: Any, n_items: int, chosen: ItemLists) -> Ranks:
    nothing = ItemLists.of([np.zeros(0)] * len(chosen))
    return CatalogueRanking(scores, n_items, chosen, nothing, Ties.drawn(np.arange(len(chosen))), 5).ranks()


def test_products_and_pairs_rank_alike() -> None:
    draw = np.random.default_rng(0)
    users, items = draw.normal(size=(300, 4)).astype(np.float32), draw.normal(size=(5001, 4)).astype(np.float32)
    chosen = ItemLists.of([draw.choice(np.arange(1, 5001), 3, replace=False) for _ in users])
    weights = torch.nn.Parameter(torch.from_numpy(items))
    products = catalogue(FactorScores(torch.from_numpy(users), weights), 5000, chosen)
    table = (users.astype(np.float64) @ items.T.astype(np.float64)).astype(np.float32)
    pairs = catalogue(PairScores(lambda a, b: table[a, b], 5000), 5000, chosen)
    assert products.chosen_rank.tolist() == pairs.chosen_rank.tolist()
    assert products.top.tolist() == pairs.top.tolist()


def test_a_constant_score_is_at_chance_level_whatever_the_ids() -> None:
    """Neither small ids nor positives come first: ranks of the positives are uniform."""
    n_lists, n_items = 4000, 50
    chosen = ItemLists.of([np.array([1 + place % 2]) for place in range(n_lists)])
    found = catalogue(FactorScores(torch.zeros(n_lists, 1), torch.zeros(n_items + 1, 1)), n_items, chosen)
    for side in (0, 1):
        mean = found.chosen_rank[side::2].mean()
        assert mean == pytest.approx((n_items + 1) / 2, abs=4 * np.sqrt((n_items**2 - 1) / 12 / 2000))
    hits = (found.chosen_rank <= 10).mean()
    assert hits == pytest.approx(0.2, abs=4 * np.sqrt(0.2 * 0.8 / n_lists))
    assert found.n_tied == n_lists


@pytest.mark.parametrize("n_tied", [2, 3, 10, 50])
def test_equal_items_come_first_equally_often(n_tied: int) -> None:
    n = 20_000
    ties = Ties.drawn(np.arange(n))
    keys = ties.keys(np.arange(n)[:, None], np.arange(1, n_tied + 1)[None, :])
    first = np.bincount(keys.argmin(axis=1), minlength=n_tied)
    expected = n / n_tied
    assert np.abs(first - expected).max() <= 4.5 * np.sqrt(expected)
    assert len(np.unique(keys[0])) == n_tied


def test_the_order_of_a_user_does_not_depend_on_the_others() -> None:
    alone, among = Ties.drawn(np.array([17])), Ties.drawn(np.array([3, 17, 40]))
    items = np.arange(1, 30)
    assert alone.keys(np.zeros(29, dtype=int), items).tolist() == among.keys(np.ones(29, dtype=int), items).tolist()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    table = np.zeros((2, 6), dtype=np.float32)
    table[1, 3] = bad
    with pytest.raises(RunError, match=r"1 of .* scores of .* users are NaN or infinite"):
        catalogue(TableScores(table, 4, 4), 5, ItemLists.of([np.array([1]), np.array([2])]))
    with pytest.raises(RunError, match="1 of 3 scores are NaN or infinite"):
        rank_lists(ItemLists.of([np.array([1, 2, 3])]), table[1, 2:5], Ties.drawn(np.arange(1)))


def test_ranks_within_lists_of_any_length() -> None:
    lists = ItemLists.of([np.array([5, 9]), np.array([1]), np.array([2, 3, 4])])
    ranks = rank_lists(lists, np.array([0.1, 0.2, 0.5, 3, 1, 2], dtype=np.float32), Ties.drawn(np.arange(3)))
    assert ranks.tolist() == [2, 1, 1, 1, 3, 2]
