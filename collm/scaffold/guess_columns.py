"""What the columns of somebody's file probably mean, and why: by their names first, then by what they hold.

A guess that is not supported is not made: without a user or an item column there is an error that requests names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from collm.errors import DataError
from collm.ingest.label_values import labels_of, numbers_of, rare_class, shown_counts
from collm.ingest.times import TimeForm, recognise_times
from collm.scaffold.column_names import Guess, by_name, label_words, named_like, what_it_holds
from collm.scaffold.guess_values import RatingGuess, guess_rating, looks_like_counts

_SAME_TITLE = 0.8
_LINK = r"^\s*(https?:|www\.)"


@dataclass(frozen=True)
class ColumnGuess:
    """What was guessed of a dataset's files.

    Attributes:
        roles: Canonical name -> guess; `items_key` where the items file calls the item id differently.
        unused: Columns of the interactions without a role.
        rating: Rule of the rating, None where there is a label or every row is a positive.
        values: Values of the rating or label and how many of the rows looked at have each, in words.
        doubts: Role -> sentence on an unused column that is named like the role, which nothing fills.
        warnings: What the user should look at, in sentences.
        times: What the user states of the times, `auto` by default.
        encoding: Of lines that are not UTF-8, None where all are.
        split_by_time: Whether the times of all rows are known to differ enough for a split by time, or not known.
        negatives: How items are drawn as negatives where every row is a positive; None where rows have labels.
    """

    roles: Mapping[str, Guess]
    unused: tuple[str, ...]
    rating: RatingGuess | None = None
    values: str = ""
    doubts: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    times: TimeForm = "auto"
    encoding: str | None = None
    split_by_time: bool = True
    negatives: str | None = None

    @property
    def positive_above(self) -> float | None:
        """Threshold of the rating, None where there is none."""
        return self.rating.positive_above if self.rating else None


def guess_columns(
    interactions: pl.DataFrame,
    items: pl.DataFrame | None,
    *,
    given: Mapping[str, str] | None = None,
    times: TimeForm = "auto",
    negatives: str | None = None,
) -> ColumnGuess:
    """Guesses the meaning of columns from their first rows.

    Columns that the user has named (`given`: canonical name -> column) are not guessed. Where the user says how
    `negatives` are drawn, every row is a positive and no rating or label is looked for.

    Raises:
        DataError: If no user, item, or rating or label column is found; names the columns there are and what those with
            a telling name hold. If the column named as times holds none.
    """
    given = given or {}
    roles = {role: Guess(column, "named by you") for role, column in given.items()}
    if "timestamp" in given:
        roles["timestamp"] = Guess(given["timestamp"], f"named by you; {_times_of(interactions, given, times)}")
    opinions = () if negatives else ("label", "rating")
    for role in ("user", "item", "timestamp", "split", *opinions):
        if role not in roles:
            taken = {guess.column for guess in roles.values()}
            free = interactions.select(name for name in interactions.columns if name not in taken)
            if found := by_name(role, free, times) or _by_content(role, free, times):
                roles[role] = found
    if opinions and "rating" not in roles and "label" not in roles:
        roles |= _rating_in_words(interactions)
    _check(roles, interactions, needs_opinion=bool(opinions))
    if "label" in roles and "rating" in roles and "label" not in given:
        # A rating holds more than a label that was made of it, and its threshold can be changed.
        del roles["label"]
    taken = {guess.column for guess in roles.values()}
    free = interactions.select(name for name in interactions.columns if name not in taken)
    roles |= _item_roles(roles, free, interactions, items)
    unused = tuple(name for name in interactions.columns if name not in {guess.column for guess in roles.values()})
    guess = ColumnGuess(roles, unused, doubts=_doubts(roles, unused, interactions), times=times, negatives=negatives)
    if negatives:
        return guess
    rating = guess_rating(interactions[roles["rating"].column]) if "label" not in roles else None
    opinion = interactions[roles["rating" if rating else "label"].column]
    warnings = rating.warnings if rating else _label_warnings(opinion)
    return replace(guess, rating=rating, values=shown_counts(opinion), warnings=warnings)


def _times_of(interactions: pl.DataFrame, given: Mapping[str, str], times: TimeForm) -> str:
    try:
        return recognise_times(interactions[given["timestamp"]], times).form
    except DataError as error:
        raise DataError(f"column '{given['timestamp']}' is named as the times and is {error}") from error


def _label_warnings(column: pl.Series) -> tuple[str, ...]:
    known = labels_of(column).drop_nulls()
    return tuple(filter(None, [rare_class(int(known.sum()), len(known))]))


def _rating_in_words(frame: pl.DataFrame) -> dict[str, Guess]:
    """Takes a column that is named like a rating and holds likes and dislikes in words."""
    for column in named_like("rating", frame.columns):
        if labels_of(frame[column]).n_unique() > 1 and (what := label_words(frame[column])):
            return {"label": Guess(column, f"its name is that of a rating; {what}")}
    return {}


def _doubts(roles: Mapping[str, Guess], unused: Sequence[str], frame: pl.DataFrame) -> dict[str, str]:
    """Says where a name promised what the values did not keep, since a missed time or split changes every number."""
    found = {}
    if "title" not in roles and (title := by_name("title", frame.select(unused))):
        found["title"] = (
            f"'{title.column}' differs between rows of one item, as titles of reviews do, and is not taken as the "
            f"items' title; if it is: --column title={title.column}"
        )
    for role in ("timestamp", "split"):
        for column in named_like(role, unused)[:1] if role not in roles else ():
            found[role] = (
                f"'{column}' is named like a {role} but its values could not be parsed"
                f"{_why_no_time(role, frame[column])}; to use it anyway: --column {role}={column}"
            )
    return found


def _why_no_time(role: str, column: pl.Series) -> str:
    if role != "timestamp":
        return f" ({shown_counts(column)})"
    try:
        return f" ({recognise_times(column).form})"
    except DataError as error:
        return f" ({error})"


def _by_content(role: str, frame: pl.DataFrame, times: TimeForm) -> Guess | None:
    """Only for what cannot be mistaken for something else."""
    if role not in ("timestamp", "split"):
        return None
    for column in frame.columns:
        # What the user states of the times is true of one column; others must be times by their values alone.
        if what := what_it_holds(role, frame[column], "auto" if times == "relative" else times):
            return Guess(column, what)
    return None


def _check(roles: Mapping[str, Guess], frame: pl.DataFrame, *, needs_opinion: bool) -> None:
    missing = [role for role in ("user", "item") if role not in roles]
    if needs_opinion and "rating" not in roles and "label" not in roles:
        missing.append("rating")
    if not missing:
        return
    if not frame.width:
        raise DataError("no column of the file holds text, numbers or times; values in lists or objects are not read")
    asked = " ".join(f"--column {role}=NAME" for role in missing)
    if all(re.fullmatch(r"column_\d+", name) for name in frame.columns):
        first = ", ".join(f"{name} {value!r}" for name, value in frame.row(0, named=True).items())
        raise DataError(
            f"the file has no header line, so what its columns are is not known; its first row is {first}. Name them: "
            f"{asked} (and --column timestamp=NAME where it has times)"
        )
    message = f"no column looks like {' or '.join(missing)}; the file has {', '.join(frame.columns)}. Name it: {asked}"
    if "rating" in missing:
        message += f" (or --column label=NAME for a ready label){_of_no_use(roles, frame)}"
    if "user" in missing or "item" in missing:
        message += ". The first line of a CSV file must hold column names"
    raise DataError(message)


def _of_no_use(roles: Mapping[str, Guess], frame: pl.DataFrame) -> str:
    """Says what columns hold that are named like a rating or label, or look like counts."""
    taken = {guess.column for guess in roles.values()}
    said = ""
    for role in ("rating", "label"):
        for column in named_like(role, frame.columns)[:1]:
            said += (
                f". '{column}' is named like a {role} but holds {shown_counts(frame[column])}: neither numbers of a "
                "scale nor two words of which one is known as a like and one as a dislike"
            )
    for column in frame.columns:
        if column not in taken and looks_like_counts(column, numbers_of(frame[column])):
            said += (
                f". '{column}' may count something ({shown_counts(frame[column])}): --column rating={column} takes a "
                "count above the middle one as a like, which is a rule of yours then"
            )
            break
    return said or (
        ". Of a file of positives only (clicks, purchases), say how rows with label 0 are drawn: --positives uniform "
        "or --positives popularity"
    )


def _item_roles(
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
