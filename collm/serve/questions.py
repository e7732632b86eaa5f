"""A request as a question to the model: what is asked of it, and what its logits are made into."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from collm.data.pairs import AskedPairs
from collm.errors import UsageError
from collm.serve.bodies import RecommendAnswer, RecommendBody, RecommendedItem, ScoreAnswer, ScoreBody, ScoredPair
from collm.stages.score_tables import probabilities
from collm.trained.model import TrainedModel
from collm.trained.pairs_file import Pairs, age_notes, checked_pairs, title_notes
from collm.trained.recommend import best_of, choose, shortlisted

Array = np.ndarray[Any, Any]
Answer = ScoreAnswer | RecommendAnswer
# Stands for the file's name in the messages of `collm score`.
PLACE = Path("pairs")


@dataclass(frozen=True)
class Prepared:
    """A question whose faults were looked for.

    Attributes:
        pairs: What the final model scores.
        finish: float32 [n] logits -> the answer.
    """

    pairs: AskedPairs
    finish: Callable[[Array], Answer]


@dataclass(frozen=True)
class Question:
    """One request as the model's thread sees it.

    Attributes:
        n_rows: Rows that the final model scores for it at most.
        prepare: Looks at the question; raises `UsageError` or `DataError` for what the client did wrong.
    """

    n_rows: int
    prepare: Callable[[TrainedModel], Prepared]


def score_question(body: ScoreBody, *, max_rows: int) -> Question:
    """Returns what `/score` asks.

    Raises:
        UsageError: If there are more than `max_rows` pairs.
        DataError: If a pair is bad; names it.
    """
    if len(body.pairs) > max_rows:
        raise UsageError(f"pairs: {len(body.pairs):,} in one request, at most {max_rows:,} are taken (--max-rows)")
    pairs = _pairs(body)

    def prepare(model: TrainedModel) -> Prepared:
        times = pairs.seconds(model.data)
        moments = None if times is None else np.array(times, dtype=np.int64)
        asked = model.asked(pairs.users, pairs.items, moments, titles=pairs.titles)
        return Prepared(asked, lambda logits: _scored(model, pairs, asked, logits))

    return Question(len(body.pairs), prepare)


def recommend_question(body: RecommendBody, *, max_rows: int, run_has_language_model: bool) -> Question:
    """Returns what `/recommend` asks.

    Args:
        body: The request.
        max_rows: Rows that the language model may rank.
        run_has_language_model: Whether there is one; an encoder alone may rank any number.

    Raises:
        UsageError: If the short list is longer than `max_rows`, or an id is not text.
    """
    if run_has_language_model and body.shortlist > max_rows:
        raise UsageError(f"shortlist: {body.shortlist:,}, at most {max_rows:,} are taken (--max-rows)")
    (user,) = _texts("user", [body.user])
    candidates = None if body.candidates is None else _texts("candidates", body.candidates)

    def prepare(model: TrainedModel) -> Prepared:
        choice = choose(model, user, candidates=candidates, time=body.time, include_seen=body.include_seen)
        if run_has_language_model and body.shortlist == 0 and len(choice.items) > max_rows:
            raise UsageError(
                f"shortlist: 0 ranks all {len(choice.items):,} candidates with the language model, at most "
                f"{max_rows:,} are taken (--max-rows); give a shortlist or fewer candidates"
            )
        kept = shortlisted(model, choice, body.shortlist)

        def finish(logits: Array) -> RecommendAnswer:
            found = best_of(model, kept, logits, body.k)
            fields = asdict(found) | {"items": [RecommendedItem(**asdict(item)) for item in found.items]}
            notes = () if found.user_known else (f"user {user} is unknown: no history, ranked as a cold user",)
            ages = age_notes(model, timed=body.time is not None)
            return RecommendAnswer(schema=1, run=model.path.name, notes=(*notes, *ages), **fields)

        return Prepared(kept.pairs(), finish)

    return Question(min(body.shortlist or max_rows, max_rows) if run_has_language_model else 1, prepare)


def _pairs(body: ScoreBody) -> Pairs:
    columns: dict[str, pl.Series] = {
        "user": _column("user", [pair.user for pair in body.pairs]),
        "item": _column("item", [pair.item for pair in body.pairs]),
        "line": pl.Series(range(1, len(body.pairs) + 1), dtype=pl.Int64),
    }
    if any(pair.time is not None for pair in body.pairs):
        columns["time"] = _column("time", [pair.time for pair in body.pairs])
    if any(pair.title is not None for pair in body.pairs):
        columns["title"] = _column("title", [pair.title for pair in body.pairs])
    return checked_pairs(pl.DataFrame(columns), PLACE, unit="pair")


def _texts(name: str, values: Sequence[str | int]) -> list[str]:
    texts = [str(value) for value in values]
    for number, text in enumerate(texts, start=1):
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise UsageError(f"{name} {number}: half of a surrogate pair, which is not a character (got {text[:60]!r})")
    return texts


def _column(name: str, values: Sequence[str | int | None]) -> pl.Series:
    """Returns text; what is empty is missing, as in a CSV file."""
    texts = _texts(f"{PLACE}: {name} of pair", ["" if value is None else value for value in values])
    return pl.Series(name, [text or None for text in texts], dtype=pl.String)


def _scored(model: TrainedModel, pairs: Pairs, asked: AskedPairs, logits: Array) -> ScoreAnswer:
    data = model.data
    item = np.where(asked.item > data.n_items, 0, asked.item)
    columns = zip(
        *(pairs.users, pairs.items, logits.tolist(), probabilities(logits).tolist()),
        *((asked.user > 0).tolist(), (item > 0).tolist()),
        *(data.user_train_rows[asked.user].tolist(), data.item_train_rows[item].tolist()),
        strict=True,
    )
    scored = [
        ScoredPair(
            **dict(zip(ScoredPair.model_fields, row, strict=False)),
            cold=not (row[-1] and row[-2]),
        )
        for row in columns
    ]
    notes = (*title_notes(pairs, model), *age_notes(model, timed=pairs.times is not None))
    return ScoreAnswer(schema=1, run=model.path.name, notes=notes, pairs=scored)
