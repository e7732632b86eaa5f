"""What the values of a rating or label column mean: words of likes and dislikes, sentinels, zeros, rare classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from collm.ingest.typed_rows import point_for_comma

LIKES = (
    *("1", "true", "t", "yes", "y", "like", "liked", "likes", "positive", "pos", "up", "thumbs up", "thumbsup"),
    *("good", "love", "loved", "recommended", "recommend"),
)
DISLIKES = (
    *("0", "false", "f", "no", "n", "dislike", "disliked", "dislikes", "negative", "neg", "down", "thumbs down"),
    *("thumbsdown", "bad", "hate", "hated", "not recommended", "unlike"),
)
MINUS_ONE = "-1"
RARE = 0.02
_SENTINELS = (-1.0, -9.0, -99.0, -999.0, -9999.0, 99.0, 255.0, 999.0, 9999.0)
_LOWEST_TOP = 3
_SHOWN = 12
_SHOWN_CHARACTERS = 40


@dataclass(frozen=True)
class Odd:
    """A value that may mean "not rated".

    Attributes:
        value: The value.
        rows: How many rows have it.
        share: Their share of all rows.
        low: Lowest of the other values.
        high: Highest of the other values.
    """

    value: float
    rows: int
    share: float
    low: float
    high: float

    def said(self) -> str:
        """Returns the observation as a sentence without its end."""
        return (
            f"the rating {self.value:g} of {self.rows:,} rows ({self.share:.0%}) lies apart from the others "
            f"({self.low:g} to {self.high:g}) and may mean 'not rated'"
        )


def numbers_of(column: pl.Series) -> pl.Series:
    """Returns float64 values, null where the value is not a finite number; `4,5` is 4.5."""
    if column.dtype == pl.String:
        text = pl.DataFrame({"text": column}).select(point_for_comma(pl.col("text").str.strip_chars()))
        column = text.to_series()
    numbers = column.cast(pl.Float64, strict=False)
    return numbers.set(~numbers.is_finite(), None)


def labels_of(column: pl.Series) -> pl.Series:
    """Reads likes and dislikes.

    Numbers, booleans and the usual words, in any case. Where there is -1, it is the dislike, and 0 is neither.

    Returns:
        int8: 1, 0, and null where the value is neither or missing.
    """
    text = _plain(column)
    dislikes = list(DISLIKES)
    if MINUS_ONE in set(text.unique().to_list()):
        dislikes[dislikes.index("0")] = MINUS_ONE  # 0 between -1 and 1 is neither
    known = pl.DataFrame({"text": text}).select(
        pl.when(pl.col("text").is_in(list(LIKES))).then(1).when(pl.col("text").is_in(dislikes)).then(0).cast(pl.Int8)
    )
    return known.to_series()


def shown_counts(column: pl.Series) -> str:
    """Returns the values with their rows, numbers in order and words by how many have them, in words."""
    counts = value_counts(column)
    shown = [f"{shown_value(value) or 'nothing'} ({n:,})" for value, n in counts[:_SHOWN]]
    return ", ".join([*shown, "..."] if len(counts) > _SHOWN else shown)


def shown_value(value: str) -> str:
    """Returns a value of a file as it may be shown: cut, and without characters that steer a terminal."""
    cut = value if len(value) <= _SHOWN_CHARACTERS else value[:_SHOWN_CHARACTERS] + "..."
    return "".join(character if character.isprintable() else "\ufffd" for character in cut)


def value_counts(column: pl.Series) -> list[tuple[str, int]]:
    """Returns each value as text and its rows: numbers from the lowest, other values from the most frequent."""
    counts = column.alias("value").value_counts(sort=True).rows()
    numbers = numbers_of(pl.Series([None if value is None else str(value) for value, _ in counts], dtype=pl.String))
    texts = [("" if value is None else str(value), n) for value, n in counts]
    if numbers.count() < len(texts) - 1:
        return texts
    order = sorted(range(len(texts)), key=lambda place: (numbers[place] is None, numbers[place] or 0.0))
    return [texts[place] for place in order]


def odd_values(ratings: pl.Series) -> list[Odd]:
    """Returns the values that may mean "not rated": sentinels outside of the scale, and frequent zeros below it."""
    counts = {float(value): int(n) for value, n in ratings.drop_nulls().value_counts().rows()}
    scale = [value for value in counts if value != 0 and value not in _SENTINELS]
    if len(scale) < 2:
        return []
    low, high, total = min(scale), max(scale), sum(counts.values())
    wide = high - low
    odd = [
        value
        for value in _SENTINELS
        if value in counts and ((value < 0 <= low) or value - high > wide or low - value > wide)
    ]
    is_scale = low >= 1 and high >= _LOWEST_TOP and all(value == int(value) for value in scale)
    if is_scale and counts.get(0.0, 0) > counts[low]:
        odd.append(0.0)
    return [Odd(value, counts[value], counts[value] / total, low, high) for value in sorted(odd)]


def rare_class(n_positive: int, n_rows: int) -> str:
    """Returns a sentence where one of the two classes has under 2% of the rows, else nothing."""
    if not n_rows or RARE * n_rows <= n_positive <= (1 - RARE) * n_rows:
        return ""
    n_rare, name = min((n_positive, "positive"), (n_rows - n_positive, "negative"))
    return f"only {n_rare:,} of {n_rows:,} rows ({n_rare / n_rows:.1%}) are {name}: look at the label rule"


def not_rated(values: Sequence[float]) -> str:
    """Returns the setting that leaves rows with these ratings out, as YAML."""
    return f"[{', '.join(f'{value:g}' for value in values)}]"


def _plain(column: pl.Series) -> pl.Series:
    text = column.cast(pl.String).str.strip_chars().str.to_lowercase()
    return text.str.replace_all(r"[_-]+([a-z])", " ${1}").str.replace(r"^\+", "").str.replace(r"^(-?\d)[.,]0+$", "${1}")
