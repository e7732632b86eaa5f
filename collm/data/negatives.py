"""Rows with label 0 for data that has positives alone: drawn by a stated rule, after the split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from collm.contracts.data import SAMPLED, SPLITS
from collm.data.columns import count_ids, numbered
from collm.errors import DataError

Array = np.ndarray[Any, Any]
NegativesBy = Literal["uniform", "popularity"]

# Draws that meet an item of the user are repeated, this often at most and only while they find something; then a list
# of what each user has left is made.
_ROUNDS = 20
_FEW_FREE = 0.9
_OUTSIDE = len(SPLITS)
_STREAM = 1  # of the seed: a split that is drawn with the same seed has other numbers


@dataclass(frozen=True)
class SplitDraw:
    """What was drawn in one split.

    Attributes:
        positives: Its positives.
        drawn: Rows that were drawn for them.
        wanted: Rows that the rule asks for.
        new_positives: Positives whose item has no row in training.
        new_drawn: Drawn rows of such items.
        early: Drawn rows that are earlier than the first row of their item.
    """

    positives: int
    drawn: int
    wanted: int
    new_positives: int
    new_drawn: int
    early: int


@dataclass(frozen=True)
class Negatives:
    """Positives and what was drawn beside them.

    Attributes:
        frame: The rows that were given, and below them the drawn ones, with a boolean column `sampled`.
        draws: Split -> what was drawn there.
    """

    frame: pl.DataFrame
    draws: dict[str, SplitDraw]


def draw_negatives(frame: pl.DataFrame, *, per_positive: int, by: NegativesBy, seed: int) -> Negatives:
    """Draws items for each positive of a split, as rows of its user, split and time with label 0.

    Candidates of a split are the items with a row in it or in an earlier split (train, valid, test), so that an item
    that is new in a split is not a positive there each time. Items with which the user has a row anywhere, also outside
    every split, are none, and a user has each drawn item once over all splits. Where a user's candidates are used up,
    fewer rows are drawn. A drawn row appears just before its positive in `order`, so both have the same history.

    Args:
        frame: Positives: columns `user`, `item` (raw ids), `label` 1, `rating`, `timestamp`, `split`, `row`, `order`;
            further columns are copied from the positive.
        per_positive: Rows to draw for each positive.
        by: `uniform`: each candidate alike; `popularity`: by its rows in training, an item without any as one of one.
        seed: Decides the draw, together with the rows as `row` numbers them, not as they lie in memory.

    Returns:
        The rows; numbers in `row` go on behind the largest one.

    Raises:
        DataError: If nothing can be drawn for a split that has positives.
    """
    frame = frame.sort("row")
    user, _ = numbered(frame["user"])
    item, items = numbered(frame["item"])
    place = frame["split"].replace_strict(SPLITS, range(_OUTSIDE), default=_OUTSIDE, return_dtype=pl.Int64).to_numpy()
    drawing = _Drawing.of(user.to_numpy(), item.to_numpy() - 1, place, n_items=len(items), by=by, seed=seed)
    positive = np.repeat(np.flatnonzero(place < _OUTSIDE), per_positive)
    found = drawing.draw(user.to_numpy()[positive], place[positive])
    chosen = items.gather(np.maximum(found, 0))
    rows = frame[positive].with_columns(
        chosen.alias("item"),
        pl.lit(0, dtype=frame.schema["label"]).alias("label"),
        pl.lit(None, dtype=frame.schema["rating"]).alias("rating"),
        pl.Series("nth", np.tile(np.arange(per_positive), len(positive) // per_positive)),
    )
    times = frame["timestamp"].to_numpy()
    early = times[positive] < _first_times(item.to_numpy() - 1, times, len(items))[found]
    draws = _draws(place, item.to_numpy() - 1, positive, found, early, drawing.train_rows)
    rows = rows.filter(pl.Series(found >= 0))
    last = int(frame["row"].max() or 0)
    rows = rows.with_columns(row=last + 1 + pl.int_range(pl.len(), dtype=pl.Int64))
    own = frame.with_columns(pl.lit(per_positive, dtype=pl.Int64).alias("nth"))
    return Negatives(_in_order(own, rows, per_positive), draws)


def _in_order(own: pl.DataFrame, drawn: pl.DataFrame, per_positive: int) -> pl.DataFrame:
    """Puts drawn rows below the others, each just before its positive in the user's order."""
    parts = ((own, False), (drawn, True))
    both = pl.concat([rows.with_columns(pl.lit(is_drawn).alias(SAMPLED)) for rows, is_drawn in parts])
    key = pl.col("order") * (per_positive + 1) + pl.col("nth")
    order = (key.rank("ordinal").over("user") - 1).cast(pl.Int64)
    return both.with_columns(order.alias("order")).drop("nth")


def _first_times(item: Array, times: Array, n_items: int) -> Array:
    first = np.full(n_items, np.iinfo(np.int64).max)
    np.minimum.at(first, item, times)
    return first


def _draws(
    place: Array, item: Array, positive: Array, found: Array, early: Array, train_rows: Array
) -> dict[str, SplitDraw]:
    is_new = train_rows == 0
    draws: dict[str, SplitDraw] = {}
    for number, name in enumerate(SPLITS):
        mine, asked = place == number, place[positive] == number
        has = asked & (found >= 0)
        draws[name] = SplitDraw(
            positives=int(mine.sum()),
            drawn=int(has.sum()),
            wanted=int(asked.sum()),
            new_positives=int(is_new[item[mine]].sum()),
            new_drawn=int(is_new[found[has]].sum()),
            early=int(early[has].sum()),
        )
        if asked.any() and not has.any():
            raise DataError(
                f"dataset.label.negatives: no item is left to draw in {name}: each of its users has an interaction "
                "with every candidate (the items of that split and earlier ones); there must be more items than a "
                "user interacts with"
            )
    return draws


@dataclass
class _Drawing:
    """Candidates and what each user may no longer be given.

    Candidates are numbered by the split in which they first occur, so that those of a split are the first ones.

    Attributes:
        candidates: int64 [n] item of each candidate.
        n_known: Split -> candidates.
        weights: int64 [n] weight of each candidate.
        taken: int64 sorted keys user * n + candidate that may not be drawn.
        train_rows: int64 [n_items].
        generator: Decides everything.
    """

    candidates: Array
    n_known: Array
    weights: Array
    taken: Array
    train_rows: Array
    generator: np.random.Generator

    @classmethod
    def of(cls, user: Array, item: Array, place: Array, *, n_items: int, by: NegativesBy, seed: int) -> _Drawing:
        first = np.full(n_items, _OUTSIDE)
        np.minimum.at(first, item, place)
        candidates = np.argsort(first, kind="stable")[: int((first < _OUTSIDE).sum())]
        train_rows = count_ids(item, n_items, where=place == 0)
        weights = np.maximum(train_rows, 1)[candidates] if by == "popularity" else np.ones(len(candidates), np.int64)
        number = np.full(n_items, -1)
        number[candidates] = np.arange(len(candidates))
        known = number[item] >= 0
        return cls(
            candidates=candidates,
            n_known=np.searchsorted(first[candidates], np.arange(_OUTSIDE), side="right"),
            weights=weights,
            taken=np.sort(user[known].astype(np.int64) * len(candidates) + number[item[known]]),
            train_rows=train_rows,
            generator=np.random.default_rng([seed, _STREAM]),
        )

    def draw(self, user: Array, place: Array) -> Array:
        """Draws an item for each of these users in these splits.

        Which row of a user comes first is drawn, too: otherwise rows of test would have the items that are left.

        Returns:
            int64 [n] items, -1 where a user has no candidate left.
        """
        found = np.full(len(user), -1)
        left = self.generator.permutation(len(user))
        reach = np.concatenate([[0], np.cumsum(self.weights)])
        for _ in range(_ROUNDS):
            at = (self.generator.random(len(left)) * reach[self.n_known[place[left]]]).astype(np.int64)
            number = np.searchsorted(reach, at, side="right") - 1
            is_free = self._take(user[left].astype(np.int64) * len(self.candidates) + number)
            found[left[is_free]] = number[is_free]
            n_before, left = len(left), left[~is_free]
            if len(left) > _FEW_FREE * n_before:
                break
        self._draw_rest(left, user, place, found)
        items: Array = np.where(found < 0, -1, self.candidates[np.maximum(found, 0)])
        return items

    def _take(self, keys: Array) -> Array:
        """Takes keys that are free, of equal ones the first; returns which."""
        spot = np.minimum(np.searchsorted(self.taken, keys), len(self.taken) - 1)
        is_free: Array = self.taken[spot] != keys
        is_first = np.zeros(len(keys), dtype=bool)
        is_first[np.unique(keys, return_index=True)[1]] = True
        is_free &= is_first
        # Disjoint and mostly sorted: a stable sort is fast here, the sets of numpy are not.
        self.taken = np.sort(np.concatenate([self.taken, np.sort(keys[is_free])]), kind="stable")
        return is_free

    def _draw_rest(self, left: Array, user: Array, place: Array, found: Array) -> None:
        """Draws for users of whom few candidates are left from a list of these, for rows of later splits first."""
        n = len(self.candidates)
        left = left[np.argsort(user[left], kind="stable")]
        for mine in np.split(left, np.flatnonzero(np.diff(user[left])) + 1) if len(left) else ():
            first = int(user[mine[0]]) * n
            start, end = np.searchsorted(self.taken, [first, first + n])
            is_free = np.ones(n, dtype=bool)
            is_free[self.taken[start:end] - first] = False
            for split in range(_OUTSIDE - 1, -1, -1):
                asked = mine[place[mine] == split]
                free = np.flatnonzero(is_free[: self.n_known[split]])
                # The smallest of exponential numbers with these rates: drawn one after another by weight.
                waits = self.generator.exponential(size=len(free)) / self.weights[free]
                number = free[np.argsort(waits, kind="stable")][: len(asked)]
                found[asked[: len(number)]] = number
                is_free[number] = False


def notes_of(
    negatives: Negatives, *, per_positive: int, by: NegativesBy, seed: int, has_times: bool
) -> tuple[str, ...]:
    """Returns what every results table must state of drawn rows: the rule, the numbers, what they make comparable."""
    items = f"{per_positive} item{'s' if per_positive != 1 else ''}"
    weight = {
        "uniform": "each alike",
        "popularity": "in proportion to their training rows (without any: as with one)",
    }[by]
    rule = (
        f"negatives are drawn, not observed (seed {seed}): for each positive {items} among those with an interaction "
        f"in its split or an earlier one, {weight}, never an item of the user's own at any time and none twice for a "
        "user; metrics depend on this rule and compare only with those under the same one"
    )
    each = negatives.draws.items()
    counts = ", ".join(f"{name} {draw.drawn:,} for {draw.positives:,} positives" for name, draw in each)
    new = ", ".join(
        f"{name} {draw.new_positives:,} of {draw.positives:,} positives, {draw.new_drawn:,} of {draw.drawn:,} negatives"
        for name, draw in each
        if name != "train"
    )
    notes = [rule, f"negatives drawn: {counts}; on items without training rows: {new}"]
    if short := {name: draw.wanted - draw.drawn for name, draw in each if draw.wanted > draw.drawn}:
        lacking = ", ".join(f"{name} {n:,}" for name, n in short.items())
        notes.append(f"negatives that could not be drawn, since their user has met every candidate: {lacking}")
    if has_times and (early := {name: draw.early for name, draw in each if draw.early}):
        counts = ", ".join(f"{name} {n:,}" for name, n in early.items())
        notes.append(f"negatives drawn at a time before anyone met their item, which may not have existed: {counts}")
    return tuple(notes)
