"""Top items for one user: the encoder (or popularity) makes a short list, the final model ranks it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from collm.arguments import raw_id, raw_ids, whole_number, wrong_argument
from collm.data.candidates import ItemLists, met_before, popularity
from collm.data.pairs import LATEST, AskedPairs
from collm.engine.ranking import Ties, rank_lists
from collm.errors import DataError, UsageError
from collm.stages.score_tables import probabilities
from collm.trained.listed import Titles, titles_in_prompts
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
        shortlist_rank: Its rank in the short list, from 1; None where there was no short list.
        train_rows: Its rows in the training split.
    """

    item: str
    title: str
    probability: float
    shortlist_rank: int | None
    train_rows: int


@dataclass(frozen=True)
class Recommendations:
    """What `recommend` found.

    Attributes:
        user: Raw id.
        user_known: Whether the dataset has the user.
        history: Liked titles in the prompt of the best item, oldest first; where the encoder alone recommends, the
            last ones that the user liked, `history.max_items` at most.
        n_candidates: Items that were considered, those that the user has rated included.
        shortlist_by: What chose those that the final model ranked.
        n_ranked: Items that the final model ranked.
        items: The best of them, best first.
        disliked: Disliked titles in that prompt, oldest first; none where `history.include` is `liked`.
        n_rated: Candidates that were left out because the user has rated them.
        prompts_differ: Whether the prompt of another one of `items` has other titles.
    """

    user: str
    user_known: bool
    history: tuple[str, ...]
    n_candidates: int
    shortlist_by: ShortlistBy
    n_ranked: int
    items: tuple[Recommendation, ...]
    disliked: tuple[str, ...] = ()
    n_rated: int = 0
    prompts_differ: bool = False


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
        UsageError: If an id is not text, `k` is under 1, `shortlist` under 0, or no candidate is left.
        DataError: If a candidate is unknown, or the time is none.
    """
    k, shortlist = whole_number("k", k, at_least=1), whole_number("shortlist", shortlist, at_least=0)
    choice = choose(model, user, candidates=candidates, time=time, include_seen=include_seen)
    choice = shortlisted(model, choice, shortlist)
    (logits,) = model.logits_of([choice.pairs()])
    return best_of(model, choice, logits, k)


@dataclass(frozen=True)
class Choice:
    """The items among which one user's recommendations are looked for.

    Attributes:
        user: Raw id.
        dense_user: Its dense id, 0 = unknown.
        items: int64 [n] dense ids.
        moment: When it is asked, in the seconds that the dataset counts in.
        n_candidates: Items that were considered, those that the user has rated included.
        n_rated: Those that were left out because the user has rated them.
        shortlist_by: What chose and ordered `items` among the others.
    """

    user: str
    dense_user: int
    items: Array
    moment: int
    n_candidates: int
    n_rated: int = 0
    shortlist_by: ShortlistBy = "none"

    def pairs(self) -> AskedPairs:
        """Returns what the final model scores."""
        n = len(self.items)
        return AskedPairs(np.full(n, self.dense_user), self.items, np.full(n, self.moment))


def choose(
    model: TrainedModel, user: str, *, candidates: Sequence[str] | None, time: int | None, include_seen: bool
) -> Choice:
    """Returns all items that may be recommended; arguments and errors as in `recommend`."""
    moment = LATEST if time is None else int(model.moments([time])[0])
    (dense_user,) = model.user_places.of([raw_id("user", user)])
    items = _candidates(model, candidates)
    n_candidates = len(items)
    if not include_seen:
        items = items[~np.isin(items, _seen(model, int(dense_user), moment))]
    if not len(items):
        raise UsageError(f"user {user}: no candidate is left; all {n_candidates} were rated before (--include-seen)")
    return Choice(user, int(dense_user), items, moment, n_candidates, n_candidates - len(items))


def shortlisted(model: TrainedModel, choice: Choice, size: int) -> Choice:
    """Keeps the `size` best items, best first; an encoder that recommends alone ranks everything itself.

    Args:
        model: A finished run.
        choice: All items.
        size: Items that stay; 0 = all.
    """
    if model.language is None or size == 0 or len(choice.items) <= size:
        return choice
    order, by = _order(model, choice)
    return replace(choice, items=choice.items[order[:size]], shortlist_by=by)


def best_of(model: TrainedModel, choice: Choice, logits: Array, k: int) -> Recommendations:
    """Returns the `k` best items of a choice.

    Args:
        model: The run that scored them.
        choice: What was scored.
        logits: float32 [n] of `choice.items`.
        k: Items to return at most.
    """
    data, probability = model.data, probabilities(logits)
    best = _best_first(choice, logits)[:k]  # probabilities near 0 and 1 round to ties
    (liked, disliked), *others = _titles(model, replace(choice, items=choice.items[best]))
    return Recommendations(
        user=choice.user,
        user_known=bool(choice.dense_user),
        history=liked,
        disliked=disliked,
        prompts_differ=any(titles != (liked, disliked) for titles in others),
        n_candidates=choice.n_candidates,
        n_rated=choice.n_rated,
        shortlist_by=choice.shortlist_by,
        n_ranked=len(choice.items),
        items=tuple(
            Recommendation(
                item=data.item_ids[choice.items[place]],
                title=data.titles[choice.items[place]],
                probability=float(probability[place]),
                shortlist_rank=None if choice.shortlist_by == "none" else int(place) + 1,
                train_rows=int(data.item_train_rows[choice.items[place]]),
            )
            for place in best
        ),
    )


def _titles(model: TrainedModel, choice: Choice) -> list[tuple[Titles, Titles]]:
    """Returns the liked and the disliked titles in the prompt of each item; of an encoder alone those of the first."""
    pairs = choice.pairs()
    view, rows = model.histories.rows(pairs.user, pairs.item, pairs.moment)
    if model.language is not None:
        return titles_in_prompts(model, view, rows)
    latest = view.history(rows.take(np.array([0])), model.spec.history.max_items)[0]
    return [(tuple(model.data.titles[item] for item in latest if item), ())]


def _candidates(model: TrainedModel, candidates: Sequence[str] | None) -> Array:
    if candidates is None:
        return np.arange(1, model.data.n_items + 1)
    candidates = raw_ids("candidates", candidates)
    if not candidates:
        raise wrong_argument("candidates", candidates, "at least one raw item id, or None for all items")
    found = model.item_places.of(candidates)
    unknown = [name for name, place in zip(candidates, found, strict=True) if place == 0]
    if unknown:
        raise DataError(f"candidates: {len(unknown)} items are not in the dataset: {', '.join(unknown[:8])}")
    return np.unique(found)


def _seen(model: TrainedModel, user: int, moment: int) -> Array:
    return met_before(model.data, np.array([user]), np.array([moment]))[0]


def _order(model: TrainedModel, choice: Choice) -> tuple[Array, ShortlistBy]:
    """Returns the places of a choice's items, best first, and what says so."""
    encoder, pairs = model.encoder, choice.pairs()
    if encoder is not None and "scores" in encoder.gives:
        view, rows = model.histories.rows(pairs.user, pairs.item, pairs.moment)
        return _best_first(choice, model.encoder_logits(view, rows)), "encoder"
    return _best_first(choice, popularity(model.data)[choice.items]), "popularity"


def _best_first(choice: Choice, score: Array) -> Array:
    """Returns the places of a choice's items by score, equal ones in the order that `evaluate.ranking` gives them."""
    ties = Ties.drawn(np.array([choice.dense_user]))
    ranks = rank_lists(ItemLists.of([choice.items]), score.astype(np.float32), ties)
    return np.argsort(ranks)
