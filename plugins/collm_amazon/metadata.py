"""Titles from a category's metadata, with what is left of web pages removed and every doubt counted."""

from __future__ import annotations

import html
import re
from pathlib import Path

import polars as pl

from collm.ingest.bad_rows import BadRows
from collm.ingest.json_lines import json_or_literal, read_json_lines
from collm.ingest.typed_rows import WantedColumns

FIELDS = {"item": ("parent_asin", "asin"), "title": ("title",)}
DTYPES = {"item": pl.String(), "title": pl.String()}
# The mark by which the publishers of the 2018 edition know entries that hold a page's script instead of their fields.
SCRIPT_MARK = "getTime"
# Only tags that format text: a book may be called "Learning <canvas>".
_TAGS = (
    "a|abbr|b|big|blockquote|br|center|cite|code|del|div|em|font|h[1-6]|hr|i|img|ins|li|ol|p|pre|s|script|small|span|"
    "strike|strong|style|sub|sup|table|tbody|td|th|tr|tt|u|ul"
)
_TAG = re.compile(rf"<!--.*?-->|</?(?:{_TAGS})(?:\s[^<>]*)?/?>|<(?:{_TAGS})\s[^<>]*=[^<>]*$", re.IGNORECASE | re.DOTALL)
_ENTITY_DEPTH = 3
_DOUBTFUL = r"[&<]|\s\s|[\t\r\n]|" + SCRIPT_MARK


def read_metadata(path: Path, *, bad: BadRows) -> pl.DataFrame:
    """Reads ids and titles; the 2014 files hold Python literals instead of JSON, which are read without running them.

    Returns:
        `item` and `title` as text (null where empty), and `line`, in the order of the file.

    Raises:
        DataError: If the file cannot be read or is not a metadata file.
    """
    return read_json_lines(path, WantedColumns(FIELDS, DTYPES, ("item",)), bad=bad, parse=json_or_literal)


def titles_of(metadata: pl.DataFrame, items: pl.Series, *, clean: bool) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Returns the titles of the items used, one row per listed item, and what was doubtful.

    Args:
        metadata: `item` and `title` as read; of an item listed several times the last entry counts.
        items: Items used, each once.
        clean: Whether to decode entities and remove tags.

    Returns:
        `item` and `title` (null where there is none), and notes that name counts.
    """
    listed = metadata.select("item", "title").filter(pl.col("item").is_in(items.implode()))
    titles = listed.unique("item", keep="last", maintain_order=True)
    n_several = listed.unique().height - titles.height
    notes: list[str] = []
    if n_several:
        notes.append(f"further titles of items listed several times: {n_several}, not used (the last counts)")
    doubtful = titles.filter(pl.col("title").str.contains(_DOUBTFUL))
    cleaned = {old: cleaned_title(old) if clean else without_script(old) for old in doubtful["title"].unique()}
    n_script = sum(SCRIPT_MARK in title for title in doubtful["title"])
    if n_script:
        notes.append(f"titles that are script of a web page: {n_script}, not used")
    n_changed = sum(bool(cleaned[old]) and _joined(old) != cleaned[old] for old in doubtful["title"])
    if clean and n_changed:
        notes.append(f"titles that held HTML entities or tags: {n_changed}, decoded or removed")
    if cleaned:
        new = pl.col("title").replace(list(cleaned), list(cleaned.values())).replace("", None)
        titles = titles.with_columns(new)
    n_untitled = titles["title"].null_count()
    if n_untitled:
        notes.append(f"items without a title in the metadata: {n_untitled} of {len(items)}, called 'item <id>'")
    return titles, tuple(notes)


def cleaned_title(title: str) -> str:
    """Decodes HTML entities (also those encoded twice), removes formatting tags and comments, joins blanks.

    Returns:
        The text; empty where the title is script of a web page.
    """
    text = without_script(title)
    for _ in range(_ENTITY_DEPTH):
        decoded = html.unescape(text)
        if decoded == text:
            break
        text = decoded
    return _joined(_TAG.sub(" ", text))


def without_script(title: str) -> str:
    """Returns the title, or an empty text where it is script of a web page."""
    return "" if SCRIPT_MARK in title else title


def _joined(text: str) -> str:
    return " ".join(text.split())
