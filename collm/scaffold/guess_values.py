"""Which ratings probably mean a like, and what makes that doubtful: zeros, sentinels, counts, rare classes."""

from __future__ import annotations

import re
from dataclasses import dataclass

import polars as pl

from collm.ingest.label_values import numbers_of, odd_values, rare_class

_COUNT_NAMES = re.compile(
    r"(n?(play|click|view|listen|purchase|visit|watch|stream|order|download)s?(count)?|.*counts?|quantity|qty|freq(uency)?"
    r"|hours|minutes|duration|weight|amount|times)"
)
_MANY, _HEAVY_TAIL = 20, 6


@dataclass(frozen=True)
class RatingGuess:
    """A rule for likes.

    Attributes:
        positive_above: A rating greater than this is a like.
        why: Reason of the threshold.
        not_rated: Ratings that probably mean that there is none.
        warnings: What the user should look at, in sentences.
    """

    positive_above: float
    why: str
    not_rated: tuple[float, ...] = ()
    warnings: tuple[str, ...] = ()


def guess_rating(column: pl.Series) -> RatingGuess:
    """Guesses the rule from the first ratings."""
    numbers = numbers_of(column).drop_nulls()
    odd = odd_values(numbers)
    unrated = [each.value for each in odd]
    rated = numbers.filter(~numbers.is_in(unrated)) if unrated else numbers
    warnings = [
        f"{each.said()}, as implicit feedback has it: these rows are left out (label.not_rated)" for each in odd
    ]
    warnings += _of_zeros(rated)
    if looks_like_counts(column.name, rated):
        above = float(rated.median() or 0.0)
        why = f"half of these counts are {above:g} or less; they say how often, not how much it was liked"
        warnings.append(
            f"'{column.name}' looks like counts of use (implicit feedback): a low count is not a dislike. The rule "
            f"'more than {above:g}' is a choice that changes every number: make it your own, or make a 0/1 label"
        )
    else:
        above, why = _threshold(rated)
    if rated.n_unique() == 1:
        warnings.append(
            f"all ratings looked at are {rated[0]:g}: positives only, so nothing can be learnt of dislikes. Have "
            "negatives drawn: --positives uniform, or --positives popularity"
        )
    elif rare := rare_class(int((rated > above).sum()), len(rated)):
        warnings.append(rare)
    return RatingGuess(above, why, tuple(unrated), tuple(warnings))


def _of_zeros(ratings: pl.Series) -> list[str]:
    """Says of zeros below or within a scale that they count as a low rating."""
    zeros, others = int((ratings == 0).sum()), ratings.filter(ratings != 0)
    if not zeros or not len(others):
        return []
    low, high = float(others.min() or 0), float(others.max() or 0)
    if not (low >= 1 < high or low < 0 < high):
        return []
    where = "0, between dislikes and likes," if low < 0 else "0"
    return [
        f"{zeros:,} ratings are {where} and count as a low rating: if 0 means 'not rated', set label.not_rated: [0]"
    ]


def looks_like_counts(name: str, numbers: pl.Series) -> bool:
    """Whether numbers count something: whole, from 0 or 1 on, and named so or with a long tail."""
    whole = numbers.drop_nulls()
    if not len(whole) or not bool((whole == whole.round(0)).all()) or float(whole.min() or 0) < 0:
        return False
    top, middle = float(whole.max() or 0), float(whole.median() or 0)
    is_named = _COUNT_NAMES.fullmatch(re.sub(r"[^a-z0-9]", "", name.lower())) is not None
    return top > 1 and (is_named or (top > _MANY and top > _HEAVY_TAIL * max(1.0, middle)))


def _threshold(numbers: pl.Series) -> tuple[float, str]:
    """3 of 5 stars as in the paper, and the same share of other scales."""
    low, high = float(numbers.min() or 0.0), float(numbers.max() or 0.0)
    seen = f"ratings seen run from {low:g} to {high:g}"
    if low < 0 < high:
        return 0.0, f"{seen}; those below 0 are dislikes"
    top = next((scale for scale in (1, 5, 10, 20, 100) if high <= scale), high)
    above = 0.0 if top == 1 else round(0.6 * top, 1)
    if not low <= above < high:
        above = float(numbers.median() or 0.0)
        above = above if above < high else low
        return above, f"{seen}; the threshold is near the median"
    return above, f"{seen}; the paper's rule for 5 stars is 'greater than 3'"
