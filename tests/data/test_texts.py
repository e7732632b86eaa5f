"""Texts behave as a list of strings does."""

from __future__ import annotations

import polars as pl

from collm.data.columns import Texts, as_series

PLAIN = ["", "a", "bcd", "ä"]
texts = Texts.padded(pl.Series(PLAIN[1:]))


def test_reads_like_a_list() -> None:
    assert list(texts) == PLAIN and len(texts) == 4 and [*texts, "x"] == [*PLAIN, "x"]
    assert (texts[1], texts[-1], texts.index("bcd"), "a" in texts) == ("a", "ä", 2, True)
    assert list(texts[1:3]) == PLAIN[1:3]


def test_equality_is_that_of_the_content() -> None:
    assert texts == PLAIN and texts == PLAIN and texts == Texts(pl.Series("other name", PLAIN))
    assert texts != PLAIN[:3] and texts != [*PLAIN[:3], "o"] and texts != 4


def test_numbers_become_text_and_any_sequence_a_column() -> None:
    assert Texts.padded(pl.Series([7, 12])) == ["", "7", "12"]
    assert as_series(texts, "id").equals(pl.Series("id", PLAIN), check_names=True)
    assert as_series(PLAIN, "id").equals(pl.Series("id", PLAIN), check_names=True)
    assert as_series([]).dtype == pl.String
    assert "4: '', 'a'" in repr(texts)
