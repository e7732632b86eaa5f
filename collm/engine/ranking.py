"""Ranks items for users in blocks of bounded memory: the best of a catalogue, and the exact ranks of chosen items.

No array of users x items exists. Equal scores are ordered at random: every user has an own order of the items, drawn
with a seed. So neither positives nor items with small ids come first among equals, and a method that scores all items
alike is at chance level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from collm.data.candidates import ItemLists
from collm.errors import RunError

Array = np.ndarray[Any, Any]
LISTS_PER_BLOCK = 256
ITEMS_PER_BLOCK = 4_096
PAIRS_PER_BLOCK = 1 << 20
# Chosen items per list from which sorting a block is faster than counting for each.
MANY_CHOSEN = 16
# SplitMix64: arithmetic modulo 2 ** 64.
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIXING = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))


class CatalogueScores(Protocol):
    """Scores of lists against a catalogue.

    Attributes:
        lists_per_block: Lists that are scored at once.
        items_per_block: Items that are scored at once.
    """

    lists_per_block: int
    items_per_block: int

    def __call__(self, lists: slice, items: slice) -> torch.Tensor:
        """Returns float32 [n_lists, n_items] on the processor, of dense item ids `items`; may be written to."""
        ...


@dataclass(frozen=True)
class Ties:
    """An order of equal scores per user, drawn at random.

    Attributes:
        start: uint64 [n_lists], with which the items are hashed.
    """

    start: Array

    @classmethod
    def drawn(cls, user: Array, *, seed: int = 0) -> Ties:
        """Draws the orders; that of a user depends on the seed and the dense id alone, int64 [n_lists]."""
        drawn = np.random.default_rng(seed).integers(0, 1 << 63, size=int(user.max(initial=0)) + 1, dtype=np.uint64)
        return cls(drawn[user])

    def keys(self, lists: Array, items: Array) -> Array:
        """Returns uint64 keys of (list, item) pairs, in effect all different; of equal scores the smallest ranks first.

        They are the outputs of SplitMix64 (Steele, Lea and Flood 2014) from the user's start, item by item, so that any
        of n equal items comes first equally often over users.
        """
        mixed = self.start[lists] + items.astype(np.uint64) * GOLDEN
        for shift, factor in MIXING:
            mixed = (mixed ^ (mixed >> shift)) * factor
        keys: Array = mixed ^ (mixed >> np.uint64(31))
        return keys


@dataclass(frozen=True)
class Ranks:
    """What is known of rankings of n_lists lists.

    Attributes:
        n_candidates: int64 [n_lists].
        top: int64 [n_lists, depth] the best items, best first; 0 where there are fewer candidates.
        top_score: float32 [n_lists, depth]; -inf where there is no item.
        chosen_rank: int64 [n_chosen] rank of every chosen item, from 1.
        chosen_score: float32 [n_chosen].
        n_tied: Chosen items whose score another candidate has too.
    """

    n_candidates: Array
    top: Array
    top_score: Array
    chosen_rank: Array
    chosen_score: Array
    n_tied: int


class FactorScores:
    """Scores that are dot products of a vector per list and a vector per item."""

    lists_per_block = LISTS_PER_BLOCK
    items_per_block = ITEMS_PER_BLOCK

    def __init__(self, lists: torch.Tensor, items: torch.Tensor) -> None:
        """Takes float32 [n_lists, d] and [n_items + 1, d], on any device."""
        self._lists, self._items = lists.detach(), items.detach()

    def __call__(self, lists: slice, items: slice) -> torch.Tensor:
        """Returns the products of a block."""
        return (self._lists[lists] @ self._items[items].T).float().cpu()


class PairScores:
    """Scores that are computed pair by pair."""

    def __init__(self, score: Callable[[Array, Array], Array], n_items: int) -> None:
        """Takes what scores (list, item) pairs, int64 [n] each, and gives float32 [n]."""
        self._score = score
        self.lists_per_block = max(1, PAIRS_PER_BLOCK // n_items)
        self.items_per_block = n_items

    def __call__(self, lists: slice, items: slice) -> torch.Tensor:
        """Scores all pairs of a block."""
        chosen, catalogue = np.arange(lists.start, lists.stop), np.arange(items.start, items.stop)
        found = self._score(np.repeat(chosen, len(catalogue)), np.tile(catalogue, len(chosen)))
        return torch.from_numpy(np.array(found, dtype=np.float32).reshape(len(chosen), len(catalogue)))


@dataclass(frozen=True)
class CatalogueRanking:
    """Ranks all items of a catalogue for every list.

    Attributes:
        scores: Scores of lists against items.
        n_items: Items, dense ids 1 to `n_items`.
        chosen: Items per list whose ranks are wanted; none is left out.
        left_out: Items per list that are not ranked.
        ties: Order of equal scores.
        depth: How many of the best items are kept.
    """

    scores: CatalogueScores
    n_items: int
    chosen: ItemLists
    left_out: ItemLists
    ties: Ties
    depth: int

    def ranks(self) -> Ranks:
        """Scores and ranks, block by block.

        Raises:
            RunError: If a score is NaN or infinite.
        """
        step = self.scores.lists_per_block
        blocks = [_Block(self, low, min(low + step, len(self.chosen))) for low in range(0, len(self.chosen), step)]
        parts = [block.ranks() for block in blocks]
        return Ranks(
            n_candidates=self.n_items - np.diff(self.left_out.start),
            top=np.concatenate([part.top for part in parts]),
            top_score=np.concatenate([part.top_score for part in parts]),
            chosen_rank=np.concatenate([part.chosen_rank for part in parts]),
            chosen_score=np.concatenate([part.chosen_score for part in parts]),
            n_tied=sum(part.n_tied for part in parts),
        )


class _Block:
    """Some lists against the catalogue, a piece of it at a time."""

    def __init__(self, ranking: CatalogueRanking, low: int, high: int) -> None:
        self._of, self._lists = ranking, slice(low, high)
        self._chosen, self._left_out = ranking.chosen.part(low, high), ranking.left_out.part(low, high)
        size, step = ranking.n_items, ranking.scores.items_per_block
        self._pieces = [slice(at, min(at + step, size + 1)) for at in range(1, size + 1, step)]
        self._kept: torch.Tensor | None = None
        n_lists, counts = high - low, np.diff(self._chosen.start)
        # Chosen items as a rectangle [n_lists, most]; places behind a list's last hold +inf, which nothing exceeds.
        self._column = np.arange(len(self._chosen.items)) - np.repeat(self._chosen.start[:-1], counts)
        self._shape = (n_lists, int(counts.max(initial=0)))
        self._top = np.zeros((n_lists, ranking.depth), dtype=np.int64)
        self._top_score = np.full((n_lists, ranking.depth), -np.inf, dtype=np.float32)

    def ranks(self) -> Ranks:
        """Finds the scores of the chosen items first, then what ranks before them and the best of all."""
        group = self._chosen.group
        wanted = torch.full(self._shape, torch.inf)
        for piece in self._pieces:
            inside = (self._chosen.items >= piece.start) & (self._chosen.items < piece.stop)
            if inside.any() or len(self._pieces) == 1:
                scores = self._scored(piece)
                at = torch.from_numpy(group[inside]), torch.from_numpy(self._chosen.items[inside] - piece.start)
                wanted[at[0], torch.from_numpy(self._column[inside])] = scores[at]
        before = np.zeros(self._shape, dtype=np.int64)
        tied = np.zeros(self._shape, dtype=bool)
        for piece in self._pieces:
            scores = self._scored(piece)
            found, also = self._before(scores, piece, wanted)
            before += found
            tied |= also
            self._keep_best(scores, piece)
        places = group, self._column
        return Ranks(
            n_candidates=np.zeros(0),
            top=self._top,
            top_score=self._top_score,
            chosen_rank=before[places] + 1,
            chosen_score=wanted.numpy()[places],
            n_tied=int(tied[places].sum()),
        )

    def _scored(self, piece: slice) -> torch.Tensor:
        """Returns float32 [n_lists, n_items] scores of a piece, -inf where an item is left out."""
        if self._kept is not None:
            return self._kept
        scores = self._of.scores(self._lists, piece)
        # A sum is finite only where all of it is; that it may overflow is looked at then.
        if not torch.isfinite(scores.sum()) and (bad := int((~torch.isfinite(scores)).sum())):
            raise RunError(f"ranking: {bad} of {scores.numel()} scores of {len(scores)} users are NaN or infinite")
        inside = (self._left_out.items >= piece.start) & (self._left_out.items < piece.stop)
        rows, columns = self._left_out.group[inside], self._left_out.items[inside] - piece.start
        scores[torch.from_numpy(rows), torch.from_numpy(columns)] = -torch.inf
        if len(self._pieces) == 1:
            self._kept = scores
        return scores

    def _before(self, scores: torch.Tensor, piece: slice, wanted: torch.Tensor) -> tuple[Array, Array]:
        """Returns how many items of a piece rank before each chosen one, and which of those have equals in it."""
        n_above, n_level = _counts(scores, wanted)
        own = np.zeros(self._shape, dtype=bool)
        inside = (self._chosen.items >= piece.start) & (self._chosen.items < piece.stop)
        own[self._chosen.group[inside], self._column[inside]] = True
        tied = n_level > own
        for column in np.flatnonzero(tied.any(axis=0)):
            rows = np.flatnonzero(tied[:, column])
            equal = (scores[rows] == wanted[rows, column][:, None]).numpy()
            lists, items = rows + self._lists.start, np.arange(piece.start, piece.stop)
            key = self._of.ties.keys(lists[:, None], items[None, :])
            mine = self._of.ties.keys(lists, self._chosen.items[self._chosen.start[rows] + column])
            n_above[rows, column] += (equal & (key < mine[:, None])).sum(axis=1)
        return n_above, tied

    def _keep_best(self, scores: torch.Tensor, piece: slice) -> None:
        """Merges the best of a piece into the best so far."""
        depth = self._top.shape[1]
        least = torch.from_numpy(self._top_score[:, -1])
        if torch.isinf(least).any():
            own = scores.topk(min(depth, scores.shape[1]), dim=1).values[:, -1]
            least = torch.maximum(least, own)
        rows, columns = (each.numpy() for each in torch.nonzero(scores >= least[:, None], as_tuple=True))
        found = scores.numpy()[rows, columns]
        rows, columns, found = rows[found > -np.inf], columns[found > -np.inf], found[found > -np.inf]
        if not len(rows):
            return
        old_rows, old_columns = np.nonzero(self._top)
        group = np.concatenate([old_rows, rows])
        item = np.concatenate([self._top[old_rows, old_columns], columns + piece.start])
        score = np.concatenate([self._top_score[old_rows, old_columns], found])
        order, rank = _ordered(group, score, self._of.ties.keys(group + self._lists.start, item))
        kept = rank <= depth
        order, rank = order[kept], rank[kept]
        self._top[group[order], rank - 1] = item[order]
        self._top_score[group[order], rank - 1] = score[order]


def _counts(scores: torch.Tensor, wanted: torch.Tensor) -> tuple[Array, Array]:
    """Returns int64 [n_lists, most]: how many scores are above each wanted one, and how many equal it."""
    if wanted.shape[1] > MANY_CHOSEN:
        ordered = scores.sort(dim=1).values
        below = torch.searchsorted(ordered, wanted)
        not_above = torch.searchsorted(ordered, wanted, right=True)
        return (scores.shape[1] - not_above).numpy(), (not_above - below).numpy()
    above = [torch.count_nonzero(scores > each[:, None], dim=1) for each in wanted.unbind(1)]
    level = [torch.count_nonzero(scores == each[:, None], dim=1) for each in wanted.unbind(1)]
    return torch.stack(above, dim=1).numpy(), torch.stack(level, dim=1).numpy()


def rank_lists(lists: ItemLists, score: Array, ties: Ties) -> Array:
    """Ranks the items of every list.

    Args:
        lists: Items per list.
        score: float32 [n] scores of them.
        ties: Order of equal scores.

    Returns:
        int64 [n] rank of each item in its list, from 1.

    Raises:
        RunError: If a score is NaN or infinite.
    """
    if not np.isfinite(score).all():
        raise RunError(f"ranking: {int((~np.isfinite(score)).sum())} of {len(score)} scores are NaN or infinite")
    order, rank = _ordered(lists.group, score, ties.keys(lists.group, lists.items))
    ranks = np.empty(len(score), dtype=np.int64)
    ranks[order] = rank
    return ranks


def _ordered(group: Array, score: Array, key: Array) -> tuple[Array, Array]:
    """Returns int64 [n] places of entries by group, best first, and the rank within the group of each."""
    order = np.lexsort((key, -score, group))
    sizes = np.bincount(group)
    start = np.cumsum(sizes) - sizes
    return order, np.arange(len(order)) - start[group[order]] + 1
