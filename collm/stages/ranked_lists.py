"""Ranked lists as a table: the best items of every user and every positive, with their ranks.

Columns of `ranks.parquet`: `user` and `item` (int32 dense ids), `label` (1 = a positive of the user), `rank` (int32,
1 = the best of the user's candidates), `score` (float32; null for positives behind a short list), `candidates` (int32,
how many the user has).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from collm.contracts.metric import ScoredRows
from collm.data.candidates import ItemLists, Questions
from collm.data.slices import slice_masks
from collm.errors import DataError
from collm.metrics.scored_rows import list_rows

if TYPE_CHECKING:  # reports read tables of lists without loading torch
    from collm.engine.ranking import Ranks

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Shortlist:
    """Candidates that a model scores, in the order that chose them.

    Attributes:
        lists: Candidates per user that are scored.
        positive_rank: int64 [n_positives] rank of every positive in that order; 0 where nothing ordered them.
        n_candidates: int64 [n_lists] candidates, the others included.
        by: What ordered them: an encoder's name, `popularity`, or `nothing` where all are scored.
        behind: Rows of the table that fill lists which are shorter than is kept; None = no others.
    """

    lists: ItemLists
    positive_rank: Array
    n_candidates: Array
    by: str
    behind: pl.DataFrame | None = None

    @classmethod
    def whole(cls, questions: Questions, candidates: ItemLists) -> Shortlist:
        """Returns all candidates, unordered."""
        none = np.zeros(len(questions.positives.items), dtype=np.int64)
        return cls(candidates, none, np.diff(candidates.start), "nothing")

    def reached(self, questions: Questions) -> dict[str, float]:
        """Returns the mean share of a user's positives in the short list, and the share of users with any."""
        inside = self.lists.places_of(questions.positives) >= 0
        n_inside = np.bincount(questions.positives.group, weights=inside, minlength=len(questions))
        share = n_inside / np.diff(questions.positives.start)
        return {"shortlist_recall": float(share.mean()), "shortlist_hit": float((n_inside > 0).mean())}


def positive_places(questions: Questions, candidates: ItemLists) -> Array:
    """Returns int64 [n_positives] place of every positive in `candidates.items`.

    Raises:
        DataError: If a positive is not a candidate.
    """
    places = candidates.places_of(questions.positives)
    if (places < 0).any():
        raise DataError(f"evaluate.ranking: {int((places < 0).sum())} positives are not among their candidates")
    return places


def catalogue_frame(questions: Questions, ranks: Ranks) -> pl.DataFrame:
    """Returns the table of a ranked catalogue."""
    positives = questions.positives
    rows, columns = np.nonzero(ranks.top)
    top = table_rows(
        questions, rows, ranks.top[rows, columns], columns + 1, ranks.top_score[rows, columns], ranks.n_candidates
    )
    liked = table_rows(
        questions, positives.group, positives.items, ranks.chosen_rank, ranks.chosen_score, ranks.n_candidates
    )
    return _joined(top, liked)


def listed_frame(questions: Questions, order: Shortlist, rank: Array, score: Array, depth: int) -> pl.DataFrame:
    """Returns the table of ranked candidate lists.

    Args:
        questions: What was asked.
        order: The candidates that were scored.
        rank: int64 [n] rank of each of them, from 1.
        score: float32 [n] their scores.
        depth: Best items that are kept.
    """
    positives, lists = questions.positives, order.lists
    best = rank <= depth
    top = table_rows(questions, lists.group[best], lists.items[best], rank[best], score[best], order.n_candidates)
    place = lists.places_of(positives)
    inside = place >= 0
    final = np.where(inside, rank[place], order.positive_rank)
    liked = table_rows(questions, positives.group, positives.items, final, score[place], order.n_candidates)
    liked = liked.with_columns(pl.when(pl.Series(inside)).then(pl.col("score")).alias("score"))
    return _joined(top if order.behind is None else pl.concat([top, order.behind]), liked)


def table_rows(
    questions: Questions, lists: Array, items: Array, rank: Array, score: Array | None, n_candidates: Array
) -> pl.DataFrame:
    """Returns rows of the table without labels.

    Args:
        questions: What was asked.
        lists: int64 [n] number of each row's list.
        items: int64 [n] dense ids.
        rank: int64 [n].
        score: float32 [n]; None = not scored.
        n_candidates: int64 [n_lists].
    """
    return pl.DataFrame(
        {
            "user": questions.user[lists].astype(np.int32),
            "item": items.astype(np.int32),
            "rank": rank.astype(np.int32),
            "score": pl.Series(np.full(len(items), None) if score is None else score, dtype=pl.Float32),
            "candidates": n_candidates[lists].astype(np.int32),
        }
    )


def _joined(top: pl.DataFrame, liked: pl.DataFrame) -> pl.DataFrame:
    """Joins the best items and the positives, each item once."""
    others = top.join(liked, on=["user", "item"], how="anti").with_columns(pl.lit(0, dtype=pl.Int8).alias("label"))
    both = pl.concat([liked.with_columns(pl.lit(1, dtype=pl.Int8).alias("label")), others])
    return both.select("user", "item", "label", "rank", "score", "candidates").sort("user", "rank")


def n_tied(questions: Questions, lists: ItemLists, score: Array) -> int:
    """Returns how many scored positives have the score of another candidate of their user."""
    frame = pl.DataFrame({"list": lists.group, "score": score})
    several = frame.select(pl.len().over("list", "score") > 1).to_series().to_numpy()
    place = lists.places_of(questions.positives)
    return int(several[place[place >= 0]].sum())


def sliced_lists(
    table: pl.DataFrame, slices: Sequence[str], *, warm: str, cold: str
) -> Iterator[tuple[str, ScoredRows]]:
    """Yields the ranked lists of every slice.

    In a slice a user's list has the positives of the slice alone: the others are taken out of the candidates, and what
    was behind them moves up. Users without a positive in the slice are left out.

    Args:
        table: Lists of one method, columns as in `ranking.parquet`.
        slices: Names of slices.
        warm: Rule of the warm slice (`collm.data.slices`).
        cold: Rule of the cold slice.
    """
    counts = (table[name].to_numpy() for name in ("user_train_rows", "item_train_rows"))
    masks = slice_masks(*counts, warm=warm, cold=cold)
    for name in slices:
        yield name, list_rows(table, masks[name])
