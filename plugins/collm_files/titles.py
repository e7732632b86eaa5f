"""Titles of items, from a file of their own or from the interactions, with what was doubtful said in notes."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from collm.data.bad_rows import BadRows
from collm.data.typed_rows import without
from collm_files.rows import read_columns

NONE_NOTE = "no titles are given: prompts show item ids"


def read_titles(path: Path, *, key: str, title: str, bad: BadRows) -> pl.DataFrame:
    """Reads an items file. Of rows with the same id the first is kept; one with another title is a bad row.

    Args:
        path: The file.
        key: Its column of item ids.
        title: Its column of titles.
        bad: Takes the rows that cannot be used.

    Returns:
        `item` and `title` (null where empty) as text, one row per item.
    """
    frame = read_columns(path, {"item": key, "title": title}, required=("item",), bad=bad)
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
