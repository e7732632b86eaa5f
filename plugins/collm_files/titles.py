"""Titles of items, from a file of their own or from the interactions, with what was doubtful said in notes."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from collm.errors import DataError
from collm.ingest.bad_rows import BadRows
from collm.ingest.ids import MISSING_WORDS
from collm.ingest.typed_rows import without
from collm_files.rows import read_columns

_EXAMPLES = 3
_CUT = "..."
NONE_NOTE = "no titles are given: prompts show item ids"


def read_titles(path: Path, *, key: str, title: str, bad: BadRows, encoding: str | None = None) -> pl.DataFrame:
    """Reads an items file. Of rows with the same id the first is kept; one with another title is a bad row.

    Args:
        path: The file.
        key: Its column of item ids.
        title: Its column of titles.
        bad: Takes the rows that cannot be used.
        encoding: Of lines that are not UTF-8.

    Returns:
        `item` and `title` (null where empty) as text, one row per item.
    """
    frame = read_columns(path, {"item": key, "title": title}, required=("item",), bad=bad, encoding=encoding)
    differs = pl.col("title").ne_missing(pl.col("title").first().over("item"))
    fault = pl.when(differs).then(pl.lit("the item has another title in an earlier row"))
    text = frame.select("item", "title")
    sound = without(frame, fault, file=path.name, bad=bad, text_of=lambda place: ",".join(map(str, text.row(place))))
    return sound.unique("item", keep="first", maintain_order=True).select("item", "title")


def titles_beside(frame: pl.DataFrame) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Takes titles from the interactions: of each item the first one that is not empty.

    Args:
        frame: Columns `item`, `title`.

    Returns:
        `item` and `title`, and a note where items have several titles.
    """
    given = frame.select("item", "title").drop_nulls("title").unique(maintain_order=True)
    titles = given.unique("item", keep="first", maintain_order=True)
    n_several = given.height - titles.height
    notes = (f"{n_several} further titles of items that have one already are not used (the first counts)",)
    return titles, notes if n_several else ()


def without_missing_words(titles: pl.DataFrame) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Takes out titles such as 'nan' where several items have them: then no film is called so.

    Args:
        titles: `item` and `title`.

    Returns:
        The titles, null in place of such words, and a note.
    """
    counts = dict(titles["title"].filter(titles["title"].is_in(MISSING_WORDS)).value_counts().iter_rows())
    words = {word: n for word, n in counts.items() if n > 1}
    if not words:
        return titles, ()
    title = pl.col("title")
    kept = titles.with_columns(pl.when(~title.is_in(list(words)).fill_null(False)).then(title))
    named = ", ".join(f"'{word}' ({n:,})" for word, n in words.items())
    return kept, (f"titles that are words for a missing value are not used: {named}",)


def cut_titles(titles: pl.DataFrame, longest: int | None) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Cuts titles of more characters than `longest` (None = none), and says how many.

    Args:
        titles: `item` and `title`.
        longest: Characters of a title that is cut, the dots at its end included.
    """
    title = pl.col("title")
    is_long = title.str.len_chars() > (longest or 0)
    n_long = int(titles.select(is_long.sum()).item() or 0) if longest else 0
    if not longest or not n_long:
        return titles, ()
    short = pl.when(is_long).then(title.str.head(longest - len(_CUT)).str.strip_chars_end() + _CUT).otherwise(title)
    return titles.with_columns(short.alias("title")), (f"{n_long:,} titles of more than {longest} characters are cut",)


def check_match(rows: pl.DataFrame, titles: pl.DataFrame, *, interactions: Path, items: Path, key: str) -> None:
    """Checks that the items file is about the items of the interactions.

    Args:
        rows: Interactions with `item` and `line`.
        titles: `item` and `title`.
        interactions: Their file.
        items: The items file.
        key: What it calls the item id.

    Raises:
        DataError: If it holds the items of less than half of the interactions; shows ids of both.
    """
    is_known = rows["item"].is_in(titles["item"].implode())
    if 2 * int(is_known.sum()) >= rows.height:
        return
    unknown = rows.filter(~is_known)["item"].unique(maintain_order=True)
    known_elsewhere = titles.filter(~titles["item"].is_in(rows["item"].implode()))["item"]
    examples = [", ".join(repr(each) for each in ids.head(_EXAMPLES)) for ids in (unknown, known_elsewhere)]
    raise DataError(
        f"dataset.items: the ids in '{key}' of {items} match the items of {int(is_known.sum()):,} of {rows.height:,} "
        f"interactions: {interactions.name} has {examples[0]}, {items.name} has {examples[1] or 'no other ids'}. Name "
        "the right column with columns.items_key, or bring the ids into one form"
    )


def untitled_note(items: pl.Series, titles: pl.DataFrame) -> tuple[str, ...]:
    """Returns the note on items without a title, or nothing.

    Args:
        items: Item of each interaction.
        titles: `item` and `title`.
    """
    used = items.unique()
    titled = titles.drop_nulls("title")["item"]
    n_untitled = len(used) - int(used.is_in(titled.implode()).sum())
    if not n_untitled:
        return ()
    return (f"{n_untitled} of {len(used)} items have no title and are called 'item <id>'",)
