"""What the columns of an items file probably mean: the key that holds the interactions' items, and the title."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from collm.errors import DataError
from collm.ingest.label_values import numbers_of
from collm.scaffold.column_names import Guess, by_name

_SAME_TITLE = 0.8
_LINK = r"^\s*(https?:|www\.)"


def item_roles(
    roles: Mapping[str, Guess], free: pl.DataFrame, interactions: pl.DataFrame, items: pl.DataFrame | None
) -> dict[str, Guess]:
    """Finds the title, and the key of the items file."""
    item = roles["item"].column
    if items is None:
        found = None if "title" in roles else by_name("title", free)
        return {"title": found} if found and _is_of_items(interactions[item], interactions[found.column]) else {}
    more: dict[str, Guess] = {}
    key = roles["items_key"].column if "items_key" in roles else item
    if "items_key" not in roles and (guess := _best_key(interactions[item], items, same=item)):
        more["items_key"], key = guess, guess.column
    if "title" not in roles:
        rest = items.drop(key)
        title = by_name("title", rest) or _longest_text(rest)
        if title is None:
            raise DataError(f"no column of the items file looks like title; it has {', '.join(items.columns)}. "
                            "Name it: --column title=NAME")  # fmt: skip
        more["title"] = title
    return more


def _is_of_items(items: pl.Series, titles: pl.Series) -> bool:
    """Whether a title goes with an item: reviews have titles of their own."""
    pairs = pl.DataFrame({"item": items, "title": titles}).drop_nulls()
    several = pairs.group_by("item").agg(pl.len(), pl.col("title").n_unique().alias("titles")).filter(pl.col("len") > 1)
    return not several.height or float((several["titles"] == 1).mean() or 0.0) >= _SAME_TITLE


def _best_key(ids: pl.Series, items: pl.DataFrame, *, same: str) -> Guess | None:
    """Takes the column of the items file that holds most of the interactions' item ids; None = the one called alike."""
    wanted = _comparable(ids).drop_nulls().unique()
    shares = {name: float(wanted.is_in(_comparable(items[name]).implode()).mean() or 0.0) for name in items.columns}
    best = max(shares, key=lambda name: shares[name], default="")
    if same in shares and shares[same] >= min(0.5, shares[best]):
        return None
    if not shares or shares[best] == 0:
        raise DataError(
            f"no column of the items file holds the item ids; it has {', '.join(items.columns)}. "
            "Name it: --column items_key=NAME"
        )
    return Guess(best, f"holds {shares[best]:.0%} of the item ids seen")


def _comparable(ids: pl.Series) -> pl.Series:
    """Returns ids as text in which `37.0` is `37`, as they are compared later."""
    return ids.cast(pl.String, strict=False).str.strip_chars().str.replace(r"^([+-]?\d+)\.0+$", "${1}")


def _longest_text(frame: pl.DataFrame) -> Guess | None:
    lengths = {
        name: float(frame[name].str.len_chars().mean() or 0.0)
        for name in frame.columns
        if frame[name].dtype == pl.String and numbers_of(frame[name]).count() == 0 and not _are_links(frame[name])
    }
    if not lengths:
        return None
    longest = max(lengths, key=lambda name: lengths[name])
    return Guess(longest, f"the longest texts, {lengths[longest]:.0f} characters on average")


def _are_links(texts: pl.Series) -> bool:
    return bool(2 * int(texts.str.contains(_LINK).sum()) > texts.count())
