"""What columns are called for each role, and whether their values keep what the name promises."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from collm.errors import DataError
from collm.ingest.label_values import labels_of, numbers_of
from collm.ingest.times import TimeForm, recognise_times

# Spellings without punctuation, most telling first.
NAMES: Mapping[str, tuple[str, ...]] = {
    role: tuple(spellings.split())
    for role, spellings in {
        "user": "userid user uid reviewerid customerid memberid accountid visitorid profileid username reviewer "
        "customer member account visitor person personid playerid",
        "item": "itemid item iid parentasin asin productid movieid bookid isbn songid trackid artistid albumid gameid "
        "appid animeid articleid newsid businessid recipeid sku filmid videoid product movie book song track "
        "article artist album game anime recipe news content id",
        "rating": "rating ratings stars star overall score userrating reviewrating rate grade",
        "label": "label liked like islike click clicked target positive ispositive purchased recommended isrecommended "
        "recommend votedup thumbsup feedback isclick isliked vote upvote reaction sentiment opinion",
        "timestamp": "timestamp unixreviewtime time unixtime datetime date ts createdat eventtime ratedat reviewdate "
        "sortingtimestamp reviewtime created updatedat",
        "title": "title name itemname itemtitle productname producttitle movietitle booktitle headline trackname "
        "originaltitle",
        "split": "split fold subset partition set",
    }.items()
}
_SPLIT_VALUES = {"train", "valid", "validation", "val", "dev", "test"}
_RATING_ENDS = ("rating", "ratings", "score", "stars")
_NOT_OF_USERS = ("avg", "average", "mean", "median", "num", "total", "critic")
_MOST_RATINGS = 101


@dataclass(frozen=True)
class Guess:
    """One column and the reason why it was taken."""

    column: str
    why: str


def named_like(role: str, columns: Sequence[str]) -> list[str]:
    """Returns the columns that are spelt like a role, the most telling one first."""
    plain = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in reversed(columns)}
    found = [plain[spelling] for spelling in NAMES[role] if spelling in plain]
    if role == "rating":
        found += [
            name
            for spelling, name in plain.items()
            if spelling.endswith(_RATING_ENDS) and not spelling.startswith(_NOT_OF_USERS) and name not in found
        ]
    return found


def by_name(role: str, frame: pl.DataFrame, times: TimeForm = "auto") -> Guess | None:
    """Returns the first column that is named like a role and holds what it needs."""
    for column in named_like(role, frame.columns):
        if what := what_it_holds(role, frame[column], times):
            return Guess(column, f"its name; {what}")
    return None


def what_it_holds(role: str, column: pl.Series, times: TimeForm) -> str:
    """Returns what a column holds for a role, in words; empty where it cannot fill it."""
    return _timestamp(column, times) if role == "timestamp" else _HOLDS[role](column)


def _ids(column: pl.Series) -> str:
    return f"{column.n_unique()} values in the first {len(column)} rows" if column.count() else ""


def _rating(column: pl.Series) -> str:
    numbers = numbers_of(column)
    if not column.count() or numbers.count() < 0.5 * column.count() or numbers.n_unique() > _MOST_RATINGS:
        return ""
    return f"numbers from {numbers.min():g} to {numbers.max():g}"


def label_words(column: pl.Series) -> str:
    """Returns which values are likes and which dislikes, in words; empty where some value is neither."""
    labels = labels_of(column)
    given = column.cast(pl.String).str.strip_chars().replace("", None)
    if not given.count() or labels.count() < given.count():
        return ""
    likes, dislikes = (sorted(set(given.filter((labels == value).fill_null(False)).to_list())) for value in (1, 0))
    if {*likes, *dislikes} <= {"0", "1", "0.0", "1.0", "true", "false"}:
        return "only 0 and 1"
    return " and ".join(
        f"{', '.join(map(repr, words))} as {what}"
        for words, what in ((likes, "a like"), (dislikes, "a dislike"))
        if words
    )


def _timestamp(column: pl.Series, times: TimeForm = "auto") -> str:
    if not column.count() or column.dtype == pl.Boolean:
        return ""
    try:
        return recognise_times(column, times).form
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
    "label": label_words,
    "title": _title,
    "split": _split,
}
