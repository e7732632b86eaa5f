"""Small interaction tables."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from collm.contracts.data import InteractionTable
from collm.data.split import split_by_global_time
from collm.data.table import Recipe, build_table, with_label, with_order

TableMaker = Callable[..., InteractionTable]


@pytest.fixture
def make_table() -> TableMaker:
    """Returns a function that makes a random table; few distinct times give ties, few items give re-ratings."""

    def make(
        seed: int = 0, n_rows: int = 200, n_users: int = 7, n_items: int = 9, n_times: int = 25
    ) -> InteractionTable:
        generator = np.random.default_rng(seed)
        raw = pl.DataFrame(
            {
                "user": generator.integers(100, 100 + n_users, n_rows),
                "item": generator.integers(500, 500 + n_items, n_rows),
                "rating": generator.integers(1, 6, n_rows).astype(np.float32),
                "timestamp": generator.integers(1, n_times + 1, n_rows),
                "row": generator.permutation(n_rows) * 3,
            }
        )
        raw = with_order(with_label(raw, 4))
        raw = raw.with_columns(split_by_global_time(raw["timestamp"], valid=0.2, test=0.2))
        titles = pl.DataFrame({"item": np.arange(500, 500 + n_items), "title": [f"Film {i}" for i in range(n_items)]})
        return build_table(raw, titles, Recipe(tie_rule="source row", notes=("a note",)))

    return make


class FixedSource:
    """A dataset that is one table."""

    def __init__(self, table: InteractionTable) -> None:
        self.table = table

    def content_hash(self) -> str:
        return "c0ffee"

    def load(self) -> InteractionTable:
        return self.table
