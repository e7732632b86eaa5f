"""Candidate lists of users: what each is asked for, when, among which items; shared by ranking and recommending."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from collm.contracts.data import SAMPLED, SPLITS
from collm.data.prepared import PreparedData
from collm.errors import DataError
from collm.visible import visible

Array = np.ndarray[Any, Any]
Draw = Literal["uniform", "popularity"]
FEW_SHARE = 4  # up to 1 / 4 of the items are drawn one by one, more at once


@dataclass(frozen=True)
class ItemLists:
    """Item ids of several lists, one behind the other.

    Attributes:
        items: int64 [n] dense item ids.
        start: int64 [n_lists + 1]: list i has `items[start[i]:start[i + 1]]`.
    """

    items: Array
    start: Array

    def __len__(self) -> int:
        return len(self.start) - 1

    @classmethod
    def of(cls, lists: Sequence[Array]) -> ItemLists:
        """Joins lists of item ids."""
        items = np.concatenate([np.zeros(0, dtype=np.int64), *lists]).astype(np.int64)
        return cls(items, np.concatenate([[0], np.cumsum([len(each) for each in lists])]).astype(np.int64))

    @classmethod
    def grouped(cls, group: Array, items: Array, n_lists: int) -> ItemLists:
        """Makes lists from the list number and item of each entry; each item once per list, in increasing order."""
        pairs = np.unique(np.stack([group, items]).astype(np.int64), axis=1)
        return cls(pairs[1], np.searchsorted(pairs[0], np.arange(n_lists + 1)))

    @property
    def group(self) -> Array:
        """Returns int64 [n]: the list of each item."""
        return np.repeat(np.arange(len(self)), np.diff(self.start))

    def __getitem__(self, place: int) -> Array:
        """Returns the items of one list."""
        return self.items[self.start[place] : self.start[place + 1]]

    def places_of(self, others: ItemLists) -> Array:
        """Returns the place in `items` of every item of `others`, looked up in the list of the same number.

        Args:
            others: As many lists.

        Returns:
            int64 [n]; -1 where the list lacks the item.
        """
        if not len(self.items):
            return np.full(len(others.items), -1)
        width = int(max(self.items.max(), others.items.max(initial=0))) + 1
        keys, wanted = self.group * width + self.items, others.group * width + others.items
        order = np.argsort(keys)
        found = order[np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)]
        return np.where(keys[found] == wanted, found, -1)

    def part(self, low: int, high: int) -> ItemLists:
        """Returns the lists `low` to `high`, the latter not included."""
        start = self.start[low : high + 1]
        return ItemLists(self.items[start[0] : start[-1]], start - start[0])


@dataclass(frozen=True)
class Questions:
    """One question per user: which items will the user like from that moment on?

    Attributes:
        user: int64 [n] dense ids, increasing.
        moment: int64 [n] seconds; histories hold what is strictly earlier.
        positives: The items that the user liked, which a good ranking puts first.
        left_out: Items that are not candidates because the user has met them before; never a positive.
        n_repeats: Positives that were dropped because the user had met the item before.
        n_without: Users of the split who have no positive left to ask for.
    """

    user: Array
    moment: Array
    positives: ItemLists
    left_out: ItemLists
    n_repeats: int = 0
    n_without: int = 0

    def __len__(self) -> int:
        return len(self.user)


def ask(
    data: PreparedData,
    split: str,
    *,
    which: Literal["all", "last"] = "all",
    leave_out_seen: bool = True,
    n_users: int | None = None,
    seed: int = 0,
) -> Questions:
    """Makes one question per user from the positives of a split.

    The moment is the time of the user's first positive of the split (`all`) or of the last (`last`).

    Args:
        data: Prepared data.
        split: `valid` or `test`, after `limit`.
        which: All positives of the user in the split, or the last in time alone.
        leave_out_seen: Whether items that the user has met before are not candidates: in an earlier split, or strictly
            before the moment. A positive among them (the user met the item again) is dropped and counted.
        n_users: Users at most, drawn whole; None = all. Fewer users with the same seed are a subset.
        seed: Decides the draw of users.

    Raises:
        DataError: If the split has no positive.
    """
    rows = data.rows(split)
    order = data.column("order")[rows.index]
    found = pl.DataFrame(
        {"user": rows.user, "item": rows.item, "time": rows.timestamp, "order": order, "label": rows.label}
    )
    n_all = found["user"].n_unique()
    liked = found.filter(pl.col("label") == 1).sort("user", "order")
    if which == "last":
        liked = liked.group_by("user", maintain_order=True).last()
    if not liked.height:
        raise DataError(f"evaluate.ranking: the {split} split has no row with label 1, so nothing can be ranked")
    users = liked["user"].unique().sort()
    if n_users is not None and n_users < len(users):
        # Users are drawn by raw id, so that rows of others do not change who is drawn.
        names = np.array([data.user_ids[user] for user in users.to_list()])
        drawn = np.random.default_rng(seed).permutation(np.unique(names))[:n_users]
        users = users.filter(pl.Series(np.isin(names, drawn)))
        liked = liked.filter(pl.col("user").is_in(users.implode()))
    moments = liked.group_by("user").agg(pl.col("time").min()).sort("user")["time"].to_numpy().astype(np.int64)
    asked = users.to_numpy().astype(np.int64)
    place = np.searchsorted(asked, liked["user"].to_numpy())
    positives = ItemLists.grouped(place, liked["item"].to_numpy(), len(asked))
    if not leave_out_seen:
        return Questions(asked, moments, positives, ItemLists.of([np.zeros(0)] * len(asked)), 0, n_all - len(asked))
    left_out = met_before(data, asked, moments, splits=SPLITS[: SPLITS.index(split)])
    return _without_repeats(Questions(asked, moments, positives, left_out), n_all if n_users is None else None)


def _without_repeats(questions: Questions, n_all: int | None) -> Questions:
    """Drops positives that are left out as candidates, and users who have none then."""
    positives, left_out = questions.positives, questions.left_out
    new = left_out.places_of(positives) < 0
    kept = np.unique(positives.group[new])
    n_without = len(questions) - len(kept) if n_all is None else n_all - len(kept)
    if not len(kept):
        raise DataError("evaluate.ranking: the users have met every positive before; set exclude: nothing")
    place = np.searchsorted(kept, positives.group[new])
    return Questions(
        user=questions.user[kept],
        moment=questions.moment[kept],
        positives=ItemLists.grouped(place, positives.items[new], len(kept)),
        left_out=ItemLists.of([left_out[each] for each in kept]),
        n_repeats=int((~new).sum()),
        n_without=n_without,
    )


def met_before(data: PreparedData, user: Array, moment: Array, *, splits: Sequence[str] = ()) -> ItemLists:
    """Returns the items that each user has met: in one of the splits, or strictly before the moment.

    Negatives that were drawn, not met, do not count.

    Args:
        data: Prepared data.
        user: int64 [n] dense ids, each once.
        moment: int64 [n] seconds.
        splits: Splits that count as met whatever their time.
    """
    table = pl.DataFrame({"user": user, "moment": moment, "place": np.arange(len(user))})
    rows = data.interactions().join(table.with_columns(pl.col("user").cast(pl.Int64)), on="user", how="inner")
    if SAMPLED in rows.columns:
        rows = rows.filter(~pl.col(SAMPLED))
    rows = rows.filter((pl.col("timestamp") < pl.col("moment")) | pl.col("split").is_in(list(splits)).fill_null(False))
    return ItemLists.grouped(rows["place"].to_numpy(), rows["item"].to_numpy(), len(user))


def draw_candidates(data: PreparedData, questions: Questions, *, n: int, by: Draw, seed: int) -> ItemLists:
    """Draws items beside the positives of each user, without replacement.

    Items that are left out are not drawn. The draw of a user depends on the seed and the raw user id alone.

    Args:
        data: Prepared data.
        questions: Users with positives.
        n: Items to draw per user; where fewer are left, all of them.
        by: `uniform` over the catalogue, or `popularity`: with probability proportional to the rows in training.
        seed: Decides the draws.

    Returns:
        Positives and drawn items of each user, in increasing order.
    """
    weight = np.ones(data.n_items + 1) if by == "uniform" else data.item_train_rows.astype(np.float64)
    weight[0] = 0
    draw = _WeightedDraw(weight)
    lists = []
    for place, user in enumerate(questions.user):
        positives = questions.positives[place]
        generator = np.random.default_rng([seed, *data.user_ids[user].encode()])
        drawn = draw.items(n, np.concatenate([positives, questions.left_out[place]]), generator)
        lists.append(np.sort(np.concatenate([positives, drawn])))
    return ItemLists.of(lists)


class _WeightedDraw:
    """Draws distinct items in proportion to their weights, one after the other; those that are left out are skipped."""

    def __init__(self, weight: Array) -> None:
        """Takes float64 [n_items + 1] weights, 0 for items that are never drawn."""
        self._weight = weight
        self._ends = np.cumsum(weight)
        self._n_left = int((weight > 0).sum())

    def items(self, n: int, left_out: Array, generator: np.random.Generator) -> Array:
        """Returns int64 items in the order drawn, n or as many as there are."""
        n_left = self._n_left - int((self._weight[np.unique(left_out)] > 0).sum())
        found = np.zeros(0, dtype=np.int64)
        if n < n_left // FEW_SHARE:
            while len(found) < n:
                drawn = np.searchsorted(self._ends, generator.random(2 * n) * self._ends[-1], side="right")
                # A product may round up to the last end, which is not an item.
                every = np.concatenate([found, drawn[~np.isin(drawn, left_out) & (drawn < len(self._ends))]])
                _, first = np.unique(every, return_index=True)
                found = every[np.sort(first)]
            return found[:n]
        # The n largest of log weight + Gumbel noise are the same draw, at once (Vieira 2014).
        with np.errstate(divide="ignore"):
            keys = np.log(self._weight) + generator.gumbel(size=len(self._weight))
        keys[left_out] = -np.inf
        return np.argsort(-keys, kind="stable")[: min(n, n_left)]


def listed_candidates(data: PreparedData, questions: Questions, path: Path) -> tuple[ItemLists, tuple[str, ...]]:
    """Reads candidates by raw id from CSV or parquet with the columns `user` and `item`.

    Positives that a user's list lacks are added; items that the user has met before and items that the dataset does not
    know are left out. Each of these is counted in a note.

    Args:
        data: Prepared data.
        questions: Users with positives.
        path: The file.

    Returns:
        The candidates of each user, and the notes.

    Raises:
        DataError: If the file cannot be read, lacks a column, or names no candidate for a user.
    """
    frame = _read_pairs(path)
    asked = pl.DataFrame({"user": [data.user_ids[user] for user in questions.user], "place": np.arange(len(questions))})
    items = (
        data.item_table().filter(pl.col("item") > 0).select(pl.col("id").alias("item"), pl.col("item").alias("dense"))
    )
    wanted = frame.join(asked, on="user", how="inner")
    known = wanted.join(items, on="item", how="inner")
    n_empty = len(questions) - known["place"].n_unique()
    if n_empty:
        first = asked.filter(~pl.col("place").is_in(known["place"].implode()))["user"][0]
        raise DataError(f"{path}: no known candidate for {n_empty} of {len(questions)} users, e.g. user {first}")
    listed = ItemLists.grouped(known["place"].to_numpy(), known["dense"].to_numpy(), len(questions))
    is_met = questions.left_out.places_of(listed) >= 0
    added = int((listed.places_of(questions.positives) < 0).sum())
    counts = {
        f"{wanted.height - known.height:,} candidates are not items of the dataset": wanted.height - known.height,
        f"{int(is_met.sum()):,} candidates were met by their user before": int(is_met.sum()),
        f"{added:,} positives were not listed and are added": added,
    }
    notes = tuple(f"Ranking, {path.name}: {text}." for text, n in counts.items() if n)
    group = np.concatenate([listed.group[~is_met], questions.positives.group])
    items = np.concatenate([listed.items[~is_met], questions.positives.items])
    return ItemLists.grouped(group, items, len(questions)), notes


def _read_pairs(path: Path) -> pl.DataFrame:
    try:
        if path.suffix == ".parquet":
            frame = pl.read_parquet(path, glob=False)
        else:
            frame = pl.read_csv(path, infer_schema=False, glob=False, separator="\t" if path.suffix == ".tsv" else ",")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: cannot be read as CSV or parquet: {str(error).splitlines()[0]}") from error
    if missing := sorted({"user", "item"} - set(frame.columns)):
        shown = ", ".join(visible(name) for name in frame.columns)
        raise DataError(f"{path}: lacks the columns {', '.join(missing)}; it has {shown}")
    for name in ("user", "item"):
        if not (frame.schema[name].is_integer() or frame.schema[name] == pl.String):
            raise DataError(f"{path}: column {name} holds {frame.schema[name]}; ids must be text or whole numbers")
    return frame.select(pl.col("user", "item").cast(pl.String)).drop_nulls()


def popularity(data: PreparedData) -> Array:
    """Returns int64 [n_items + 1]: rows with label 1 in the training split, by dense item id."""
    train = data.interactions().filter((pl.col("split") == "train") & (pl.col("label") == 1))
    return np.bincount(train["item"].to_numpy(), minlength=data.n_items + 1)
