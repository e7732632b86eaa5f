"""What the columns of somebody's file probably mean, and why: by their names first, then by what they hold.

A guess that is not supported is not made: without a user or an item column there is an error that asks for names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from collm.data.times import recognise_times
from collm.errors import DataError

# Spellings without punctuation, most telling first.
NAMES: Mapping[str, tuple[str, ...]] = {
    role: tuple(spellings.split())
    for role, spellings in {
        "user": "userid user uid reviewerid customerid memberid accountid visitorid profileid username reviewer "
        "customer member account visitor person personid playerid",
        "item": "itemid item iid asin parentasin productid movieid bookid isbn songid trackid artistid albumid gameid "
        "appid animeid articleid newsid businessid recipeid sku filmid videoid product movie book song track "
        "article id",
        "rating": "rating ratings stars star overall score userrating reviewrating rate grade",
        "label": "label liked like islike click clicked target positive ispositive purchased",
        "timestamp": "timestamp unixreviewtime time unixtime datetime date ts createdat eventtime ratedat reviewdate "
        "sortingtimestamp reviewtime created updatedat",
        "title": "title name itemname itemtitle productname producttitle movietitle booktitle headline trackname "
        "originaltitle",
        "split": "split fold subset partition set",
    }.items()
}
_SPLIT_VALUES = {"train", "valid", "validation", "val", "dev", "test"}
_MOST_RATINGS = 101


@dataclass(frozen=True)
class Guess:
    """One column and the reason why it was taken."""

    column: str
    why: str


@dataclass(frozen=True)
class ColumnGuess:
    """What was guessed of a dataset's files.

    Attributes:
        roles: Canonical name -> guess; `items_key` where the items file calls the item id differently.
        unused: Columns of the interactions that stand for nothing.
        positive_above: Threshold of the rating, None where there is a label.
        why_positive: Reason of the threshold.
        doubts: A sentence for each unused column that is named like a role which nothing fills.
    """

    roles: Mapping[str, Guess]
    unused: tuple[str, ...]
    positive_above: float | None = None
    why_positive: str = ""
    doubts: tuple[str, ...] = ()


def guess_columns(
    interactions: pl.DataFrame, items: pl.DataFrame | None, *, given: Mapping[str, str] | None = None
) -> ColumnGuess:
    """Guesses the meaning of columns.

    Args:
        interactions: First rows of the interactions; text columns may hold numbers.
        items: First rows of the items file, None where there is none.
        given: Canonical name -> column that the user has named; not guessed.

    Raises:
        DataError: If no user, item, or rating or label column is found; names the columns there are.
    """
    roles = {role: Guess(column, "named by you") for role, column in (given or {}).items()}
    for role in ("user", "item", "timestamp", "split", "label", "rating"):
        if role not in roles:
            taken = {guess.column for guess in roles.values()}
            free = interactions.select(name for name in interactions.columns if name not in taken)
            if found := _by_name(role, free) or _by_content(role, free):
                roles[role] = found
    _check(roles, interactions)
    if "label" in roles and "rating" in roles and "label" not in (given or {}):
        # A rating tells more than a label that was made of it, and its threshold can be changed.
        del roles["label"]
    taken = {guess.column for guess in roles.values()}
    free = interactions.select(name for name in interactions.columns if name not in taken)
    roles |= _item_roles(roles, free, interactions, items)
    unused = tuple(name for name in interactions.columns if name not in {guess.column for guess in roles.values()})
    doubts = _doubts(roles, unused)
    if "label" in roles:
        return ColumnGuess(roles, unused, doubts=doubts)
    above, why = _threshold(interactions[roles["rating"].column])
    return ColumnGuess(roles, unused, above, why, doubts)


def _named_like(role: str, columns: Sequence[str]) -> list[str]:
    """Returns the columns that are spelt like a role, the most telling one first."""
    plain = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in reversed(columns)}
    return [plain[spelling] for spelling in NAMES[role] if spelling in plain]


def _by_name(role: str, frame: pl.DataFrame) -> Guess | None:
    for column in _named_like(role, frame.columns):
        if what := _HOLDS[role](frame[column]):
            return Guess(column, f"its name; {what}")
    return None


def _doubts(roles: Mapping[str, Guess], unused: Sequence[str]) -> tuple[str, ...]:
    """Says where a name promised what the values did not keep, since a missed time or split changes every number."""
    return tuple(
        f"'{column}' is named like a {role} but its values are of no known form; if it is one: --column {role}={column}"
        for role in ("timestamp", "split")
        if role not in roles
        for column in _named_like(role, unused)[:1]
    )


def _by_content(role: str, frame: pl.DataFrame) -> Guess | None:
    """Only for what cannot be mistaken for something else."""
    if role not in ("timestamp", "split"):
        return None
    for column in frame.columns:
        if what := _HOLDS[role](frame[column]):
            return Guess(column, what)
    return None


def _check(roles: Mapping[str, Guess], frame: pl.DataFrame) -> None:
    missing = [role for role in ("user", "item") if role not in roles]
    if "rating" not in roles and "label" not in roles:
        missing.append("rating")
    if missing:
        asked = " ".join(f"--column {role}=NAME" for role in missing)
        or_label = " (or --column label=NAME for a ready 0/1 label)" if "rating" in missing else ""
        raise DataError(
            f"no column looks like {' or '.join(missing)}; the file has {', '.join(frame.columns)}. Name it: {asked}"
            f"{or_label}. The first line of a CSV file must hold column names"
        )


def _item_roles(
    roles: Mapping[str, Guess], free: pl.DataFrame, interactions: pl.DataFrame, items: pl.DataFrame | None
) -> dict[str, Guess]:
    """Finds the title, and the key of the items file."""
    item = roles["item"].column
    if items is None:
        found = None if "title" in roles else _by_name("title", free)
        return {"title": found} if found else {}
    more: dict[str, Guess] = {}
    key = roles["items_key"].column if "items_key" in roles else item
    if key not in items.columns:
        guess = _best_key(interactions[item], items)
        more["items_key"], key = guess, guess.column
    if "title" not in roles:
        rest = items.drop(key)
        title = _by_name("title", rest) or _longest_text(rest)
        if title is None:
            raise DataError(f"no column of the items file looks like title; it has {', '.join(items.columns)}. "
                            "Name it: --column title=NAME")  # fmt: skip
        more["title"] = title
    return more


def _best_key(ids: pl.Series, items: pl.DataFrame) -> Guess:
    """Takes the column of the items file that holds most of the interactions' item ids."""
    wanted = ids.cast(pl.String).drop_nulls().unique()
    shares = {
        name: float(wanted.is_in(items[name].cast(pl.String).implode()).mean() or 0.0)
        for name in items.columns
        if not items[name].dtype.is_float()
    }
    best = max(shares, key=lambda name: shares[name], default="")
    if not shares or shares[best] == 0:
        raise DataError(
            f"no column of the items file holds the item ids; it has {', '.join(items.columns)}. "
            "Name it: --column items_key=NAME"
        )
    return Guess(best, f"holds {shares[best]:.0%} of the item ids seen")


def _longest_text(frame: pl.DataFrame) -> Guess | None:
    lengths = {
        name: float(frame[name].str.len_chars().mean() or 0.0)
        for name in frame.columns
        if frame[name].dtype == pl.String and _numbers(frame[name]).count() == 0
    }
    if not lengths:
        return None
    longest = max(lengths, key=lambda name: lengths[name])
    return Guess(longest, f"the longest texts, {lengths[longest]:.0f} characters on average")


def _numbers(column: pl.Series) -> pl.Series:
    text = column.str.strip_chars() if column.dtype == pl.String else column
    return text.cast(pl.Float64, strict=False)


def _ids(column: pl.Series) -> str:
    return f"{column.n_unique()} values in the first {len(column)} rows" if column.count() else ""


def _rating(column: pl.Series) -> str:
    numbers = _numbers(column)
    if not column.count() or numbers.count() < 0.5 * column.count() or numbers.n_unique() > _MOST_RATINGS:
        return ""
    return f"numbers from {numbers.min():g} to {numbers.max():g}"


def _label(column: pl.Series) -> str:
    values = set(column.cast(pl.String).str.to_lowercase().str.strip_chars().drop_nulls().unique().to_list())
    return "only 0 and 1" if values and values <= {"0", "1", "0.0", "1.0", "true", "false"} else ""


def _timestamp(column: pl.Series) -> str:
    if not column.count() or column.dtype == pl.Boolean:
        return ""
    try:
        return recognise_times(column).form
    except DataError:
        return ""


def _title(column: pl.Series) -> str:
    return "text" if column.dtype == pl.String and column.count() else ""


def _split(column: pl.Series) -> str:
    if column.dtype != pl.String:
        return ""
    values = set(column.str.to_lowercase().drop_nulls().unique().to_list())
    return f"only {', '.join(sorted(values))}" if len(values) > 1 and values <= _SPLIT_VALUES else ""


_HOLDS: Mapping[str, Callable[[pl.Series], str]] = {
    "user": _ids,
    "item": _ids,
    "rating": _rating,
    "label": _label,
    "timestamp": _timestamp,
    "title": _title,
    "split": _split,
}


def _threshold(column: pl.Series) -> tuple[float, str]:
    """3 of 5 stars as in the paper, and the same share of other scales."""
    numbers = _numbers(column).drop_nulls()
    low, high = float(numbers.min() or 0.0), float(numbers.max() or 0.0)
    top = next((scale for scale in (1, 5, 10, 20, 100) if high <= scale), high)
    above = 0.0 if top == 1 else round(0.6 * top, 1)
    seen = f"ratings seen run from {low:g} to {high:g}"
    if not low <= above < high:
        above = float(numbers.median() or 0.0)
        above = above if above < high else low
        return above, f"{seen}; this splits them near the middle"
    return above, f"{seen}; the paper's rule for 5 stars is 'greater than 3'"
