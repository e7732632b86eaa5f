"""Millions of texts as a sequence that is not a list of Python objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import polars as pl


class Texts(Sequence[str]):
    """A text column read like a list: 16 bytes a text and more only where it is long, instead of about 70."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, series: pl.Series) -> None:
        """Takes a text column without nulls."""
        self.series = series

    @classmethod
    def padded(cls, texts: pl.Series) -> Texts:
        """Puts the padding entry "" before the texts."""
        return cls(pl.concat([pl.Series(texts.name, [""], dtype=pl.String), texts.cast(pl.String)]).rechunk())

    def __len__(self) -> int:
        return len(self.series)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Texts: ...
    def __getitem__(self, place: int | slice) -> str | Texts:
        if isinstance(place, slice):
            return Texts(self.series[place])
        text: str = self.series[int(place)]
        return text

    def __iter__(self) -> Iterator[str]:
        return iter(self.series)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Texts):
            return bool(self.series.equals(other.series))
        return isinstance(other, Sequence) and len(self) == len(other) and self.series.to_list() == list(other)

    def __repr__(self) -> str:
        return f"Texts({len(self)}: {', '.join(map(repr, self.series.head(3)))})"


def as_series(texts: Sequence[str], name: str = "") -> pl.Series:
    """Returns a text column of any sequence; without a copy where it is one already."""
    if isinstance(texts, Texts):
        return texts.series.alias(name)
    return pl.Series(name, list(texts), dtype=pl.String)
