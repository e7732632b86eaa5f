"""Items drawn beside training rows: who may be drawn, how often, and what a draw depends on."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest

from collm.contracts.data import SAMPLED
from collm.data.prepared import PreparedData, Rows
from collm.data.sampled_negatives import UnmetItems

N_USERS, N_ITEMS = 7, 30


class Table:
    """As much of a prepared dataset as the draw reads: training rows, and which of them the dataset drew itself."""

    def __init__(self, user: np.ndarray, item: np.ndarray, drawn: np.ndarray | None = None) -> None:
        index = np.arange(len(user))
        self.train = Rows(user, item, index % 2, index, index * 3 + 5, index)
        self._drawn = drawn

    def rows(self, split: str) -> Rows:
        assert split == "train", "only the training split may be read"
        return self.train

    def optional_column(self, name: str) -> np.ndarray | None:
        assert name == SAMPLED
        return self._drawn


def unmet(table: Table) -> UnmetItems:
    return UnmetItems.of(cast(PreparedData, table))


@pytest.fixture
def table() -> Table:
    generator = np.random.default_rng(0)
    user, item = generator.integers(1, N_USERS + 1, 70), generator.integers(1, N_ITEMS, 70)
    # The first and the last item of a user are where counting goes wrong; one user has met everything but two.
    most = np.arange(2, N_ITEMS - 1)
    user = np.concatenate([user, [1, 1], np.full(len(most), N_USERS)])
    return Table(user, np.concatenate([item, [1, N_ITEMS - 1], most]))


def test_every_other_item_is_drawn_alike_and_no_other(table: Table) -> None:
    found, rows = unmet(table), table.train
    known = set(rows.item.tolist())
    assert N_ITEMS not in known
    for user in range(1, N_USERS):
        one = rows.take(np.flatnonzero(rows.user == user)[:1])
        allowed = known - set(rows.item[rows.user == user].tolist())
        assert found.n_of(one.user).tolist() == [len(allowed)]
        drawn = np.concatenate([found.draw(one, 2, seed=0, epoch=epoch)[0] for epoch in range(3_000)])
        items, counts = np.unique(drawn, return_counts=True)
        assert set(items.tolist()) == allowed
        expected = len(drawn) / len(allowed)
        assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()


def test_none_is_drawn_twice_for_a_row_even_where_all_are(table: Table) -> None:
    found, rows = unmet(table), table.train
    counts = found.n_of(rows.user)
    assert counts.min() <= 2
    for n in (int(counts.min()), 4):
        chosen = rows.take(counts >= n)
        drawn = found.draw(chosen, n, seed=1, epoch=0)
        assert drawn.shape == (len(chosen), n)
        assert all(len(set(line)) == n for line in drawn.tolist())
        met = set(zip(rows.user.tolist(), rows.item.tolist(), strict=True))
        assert not any(
            (user, item) in met for user, line in zip(chosen.user, drawn.tolist(), strict=True) for item in line
        )


def test_a_draw_depends_on_seed_epoch_and_row_alone(table: Table) -> None:
    found, rows = unmet(table), table.train
    rows = rows.take(found.n_of(rows.user) >= 4)
    drawn = found.draw(rows, 4, seed=3, epoch=2)
    some = np.array([17, 3, 40])
    assert np.array_equal(found.draw(rows.take(some), 4, seed=3, epoch=2), drawn[some])
    for other in ({"seed": 4, "epoch": 2}, {"seed": 3, "epoch": 1}):
        assert (found.draw(rows, 4, **other) != drawn).any(axis=1).mean() > 0.9
    # Rows of one user do not share their items.
    mine = drawn[rows.user == 2]
    assert len({tuple(line) for line in mine.tolist()}) > 1


def test_rows_that_the_dataset_drew_are_no_interactions() -> None:
    user, item = np.array([1, 1, 2, 2, 2]), np.array([1, 2, 3, 1, 4])
    everything = unmet(Table(user, item))
    assert (everything.items.tolist(), everything.n_of(np.array([1, 2])).tolist()) == ([1, 2, 3, 4], [2, 1])
    # User 1 did not meet item 2, and nobody met item 4.
    found = unmet(Table(user, item, np.array([0, 1, 0, 0, 1])))
    assert (found.items.tolist(), found.n_of(np.array([1, 2])).tolist()) == ([1, 3], [1, 0])
