"""Top items for one user: the encoder (or popularity) makes a short list, the final model ranks it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from collm.contracts.data import SAMPLED
from collm.data.pairs import dense_ids, pair_rows
from collm.errors import DataError, UsageError
from collm.stages.evaluate import probabilities
from collm.trained.model import TrainedModel

Array = np.ndarray[Any, Any]
ShortlistBy = Literal["encoder", "popularity", "none"]


@dataclass(frozen=True)
class Recommendation:
    """One recommended item.

    Attributes:
        item: Raw id.
        title: Its title.
        probability: Of a positive label, by the final model.
        shortlist_rank: Its rank in the short list, from 1.
        train_rows: Its rows in the training split.
    """

    item: str
    title: str
    probability: float
    shortlist_rank: int
    train_rows: int


@dataclass(frozen=True)
class Recommendations:
    """What `recommend` found.

    Attributes:
        user: Raw id.
        user_known: Whether the dataset has the user.
        history: Titles that the prompt shows, oldest first.
        n_candidates: Items that were considered.
        shortlist_by: What chose those that the final model ranked.
        n_ranked: Items that the final model ranked.
        items: The best of them, best first.
    """

    user: str
    user_known: bool
    history: tuple[str, ...]
    n_candidates: int
    shortlist_by: ShortlistBy
    n_ranked: int
    items: tuple[Recommendation, ...]


def recommend(
    model: TrainedModel,
    user: str,
    *,
    k: int = 10,
    candidates: Sequence[str] | None = None,
    shortlist: int = 100,
    time: int | None = None,
    include_seen: bool = False,
) -> Recommendations:
    """Recommends items to a user.

    Args:
        model: A finished run.
        user: Raw user id; an unknown user has no history.
        k: Items to return.
        candidates: Raw item ids; None = all items of the dataset.
        shortlist: Items that a language model ranks at most; chosen by the run's encoder, or, where none scores, by
            the number of positive training rows. 0 = all candidates.
        time: Seconds since 1970 UTC (or a smaller unit, by the size of the number); None = after everything that is
            known. For a dataset without dates, one of its own numbers.
        include_seen: Whether items that the user has rated before that time may be recommended.

    Raises:
        UsageError: If `k` is under 1 or no candidate is left.
        DataError: If a candidate is unknown, or the time is none.
    """
    if k < 1:
        raise UsageError(f"k is {k}; it must be at least 1")
    data = model.data
    time = None if time is None else int(model.moments([time])[0])
    (dense_user,) = dense_ids([user], data.user_ids)
    items = _candidates(model, candidates)
    n_candidates = len(items)
    if not include_seen:
        items = items[~np.isin(items, _seen(model, int(dense_user), time))]
    if not len(items):
        raise UsageError(f"user {user}: no candidate is left; all {n_candidates} were rated before (--include-seen)")
    items, by = _shortlist(model, int(dense_user), items, time, shortlist)
    view, rows = pair_rows(data, *_pairs(int(dense_user), items, time))
    logits = model.logits(view, rows)
    probability = probabilities(logits)
    best = np.argsort(-logits, kind="stable")[:k]  # probabilities near 0 and 1 round to ties
    history = view.history(rows, model.spec.history.max_items)[best[0]]
    return Recommendations(
        user=user,
        user_known=bool(dense_user),
        history=tuple(data.titles[item] for item in history if item),
        n_candidates=n_candidates,
        shortlist_by=by,
        n_ranked=len(items),
        items=tuple(
            Recommendation(
                item=data.item_ids[items[place]],
                title=data.titles[items[place]],
                probability=float(probability[place]),
                shortlist_rank=int(place) + 1,
                train_rows=int(data.item_train_rows[items[place]]),
            )
            for place in best
        ),
    )


def _candidates(model: TrainedModel, candidates: Sequence[str] | None) -> Array:
    data = model.data
    if candidates is None:
        return np.arange(1, data.n_items + 1)
    found = dense_ids(candidates, data.item_ids)
    unknown = [name for name, place in zip(candidates, found, strict=True) if place == 0]
    if unknown:
        raise DataError(f"candidates: {len(unknown)} items are not in the dataset: {', '.join(unknown[:8])}")
    return np.unique(found)


def _seen(model: TrainedModel, user: int, time: int | None) -> Array:
    rows = model.data.interactions().filter(pl.col("user") == user)
    if SAMPLED in rows.columns:
        rows = rows.filter(~pl.col(SAMPLED))
    if time is not None:
        rows = rows.filter(pl.col("timestamp") < time)
    seen: Array = rows["item"].to_numpy().astype(np.int64)
    return seen


def _shortlist(model: TrainedModel, user: int, items: Array, time: int | None, size: int) -> tuple[Array, ShortlistBy]:
    """Returns the best items first; an encoder that recommends alone ranks everything itself."""
    if model.language is None or size == 0 or len(items) <= size:
        return items, "none"
    encoder = model.encoder
    if encoder is not None and "scores" in encoder.gives:
        view, rows = pair_rows(model.data, *_pairs(user, items, time))
        order, by = np.argsort(-model.encoder_logits(view, rows), kind="stable"), "encoder"
    else:
        train = model.data.interactions().filter((pl.col("split") == "train") & (pl.col("label") == 1))
        counts = np.bincount(train["item"].to_numpy(), minlength=model.data.n_items + 1)
        order, by = np.argsort(-counts[items], kind="stable"), "popularity"
    return items[order[:size]], by  # type: ignore[return-value]


def _pairs(user: int, items: Array, time: int | None) -> tuple[Array, Array, Array | None]:
    return np.full(len(items), user), items, None if time is None else np.full(len(items), time)
