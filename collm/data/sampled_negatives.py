"""Items drawn beside training rows, anew in every epoch: negatives of losses that compare items for one user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from collm.contracts.data import SAMPLED
from collm.data.prepared import PreparedData, Rows

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class UnmetItems:
    """Per user, the items with a training row of somebody and without one of the user.

    Nothing but the training split is read, so what users do later decides nothing. Rows that the dataset drew as
    negatives are not interactions and do not count.

    Attributes:
        items: int64 [n_items] dense ids of the items with a training row, rising.
        met: int64 [n_pairs] sorted keys user * n_items + place in `items`, of each training pair.
    """

    items: Array
    met: Array

    @classmethod
    def of(cls, data: PreparedData) -> UnmetItems:
        """Reads the training rows of prepared data."""
        rows = data.rows("train")
        drawn = data.optional_column(SAMPLED)
        if drawn is not None:
            rows = rows.take(~drawn[rows.index].astype(bool))
        items = np.unique(rows.item).astype(np.int64)
        return cls(items, np.unique(rows.user.astype(np.int64) * len(items) + np.searchsorted(items, rows.item)))

    def n_of(self, user: Array) -> Array:
        """Returns int64 [n]: how many such items each user has."""
        first = user.astype(np.int64) * len(self.items)
        return len(self.items) - np.searchsorted(self.met, first + len(self.items)) + np.searchsorted(self.met, first)

    def draw(self, rows: Rows, n: int, *, seed: int, epoch: int) -> Array:
        """Draws items for each row, all alike and none twice in a row.

        A row's items depend on the seed, the epoch, the row (its number in the source, and user) and the training split
        alone: not on the other rows.

        Args:
            rows: For which rows; each user must have `n` items.
            n: Items per row.
            seed: Decides the draw.
            epoch: Number of the epoch, from 0.

        Returns:
            int64 [n_rows, n] dense ids.
        """
        found = np.empty((len(rows), n), dtype=np.int64)
        n_items = len(self.items)
        starts = np.searchsorted(self.met, rows.user.astype(np.int64) * n_items)
        ends = np.searchsorted(self.met, (rows.user.astype(np.int64) + 1) * n_items)
        for place, (user, row, start, end) in enumerate(zip(rows.user, rows.row, starts, ends, strict=True)):
            met = self.met[start:end] - user * n_items
            generator = np.random.default_rng([seed, epoch, int(row)])
            number = generator.choice(n_items - len(met), size=n, replace=False)
            # Free item number k lies behind as many met ones as have k free items or fewer before them.
            found[place] = self.items[number + np.searchsorted(met - np.arange(len(met)), number, side="right")]
        return found
