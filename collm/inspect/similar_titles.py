"""Items whose titles differ by no more than case, accents, punctuation, year or articles."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

Array = np.ndarray[Any, Any]

_YEAR = r"\(\s*(?:1[89]|20)\d\d(?:\s*[-\u2013]\s*(?:(?:1[89]|20)\d\d)?)?\s*\)"
_FIRST_ARTICLE = r"^\s*(?:the|an|a)\s+"
# As film lists turn them around: "Matrix, The", also before an original title in brackets.
_LAST_ARTICLE = r",\s*(?:the|an|a|le|la|les|l'|el|los|las|il|lo|gli|i|der|die|das|un|une|ein|eine)\s*(\(|\)|$)"


def title_keys(titles: pl.Series) -> pl.Series:
    """Reduces titles to what must differ for them to count as different.

    Lower case without accents; a year in brackets, a leading the/a/an and an article behind a comma are left out; `&`
    reads "and"; everything but letters and digits is a space. Where nothing is left (a title of signs alone), the title
    stays as it is.

    Args:
        titles: Text.

    Returns:
        Text [n]; null where a title is empty.
    """
    plain = titles.str.strip_chars().str.to_lowercase()
    key = (
        plain.str.normalize("NFKD")
        .str.replace_all(r"\p{M}", "")
        .str.replace_all(_YEAR, " ")
        .str.strip_chars()
        .str.replace_all(_LAST_ARTICLE, " ${1}")
        .str.replace(_FIRST_ARTICLE, "")
        .str.replace_all("&", " and ", literal=True)
        .str.replace_all(r"[^\p{L}\p{N}]+", " ")
        .str.strip_chars()
    )
    both = pl.DataFrame({"key": key, "plain": plain})
    first = pl.when(pl.col("key") != "").then("key").otherwise("plain")
    return both.select(pl.when(pl.col("plain") != "").then(first).alias("key")).to_series()


def similar_items(titles: pl.Series) -> Array:
    """Groups items that share a title key.

    Args:
        titles: Titles by item id; index 0 is padding.

    Returns:
        int64 [n_items + 1] number of each item's group, from 1; 0 where no other item has its title, or it has none.
    """
    keyed = pl.DataFrame({"key": title_keys(titles)}).with_row_index("item")
    shared = (
        keyed.filter((pl.col("item") > 0) & pl.col("key").is_not_null())
        .filter(pl.len().over("key") > 1)
        .with_columns(pl.col("key").rank("dense").alias("group"))
    )
    groups = np.zeros(len(titles), dtype=np.int64)
    groups[shared["item"].to_numpy()] = shared["group"].to_numpy()
    return groups


def example_groups(titles: pl.Series, groups: Array, n: int) -> list[list[str]]:
    """Returns the titles of the first groups, for people to judge."""
    return [
        titles.gather(np.flatnonzero(groups == number)[:4]).to_list()
        for number in range(1, 1 + n)
        if (groups == number).any()
    ]


def n_identical(titles: pl.Series) -> int:
    """Returns how many items have letter for letter the title of another item; items without title do not count."""
    named = titles.filter(titles != "")
    return len(named) - int(named.is_unique().sum())
