"""What a category's metadata says of items beside titles, in one form for the files of 2014, 2018 and 2023."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from collm.ingest.bad_rows import BadRows
from collm.ingest.json_lines import json_or_literal
from collm.ingest.text_lines import TextLines
from collm_amazon.metadata import FIELDS, cleaned_title

_PRICE = re.compile(r"\$?\s*(\d[\d,]*(?:\.\d+)?)\s*$")


def read_attributes(path: Path, names: Sequence[str], items: pl.Series) -> pl.DataFrame:
    """Reads attributes of some items; of an item listed several times the last entry counts, as for titles.

    Lines that cannot be read are passed over: reading the titles has listed them.

    Args:
        path: The metadata file.
        names: Attributes, of `COLUMNS`.
        items: Raw ids of the items wanted.

    Returns:
        `item`, and one column per attribute, null where the entry has none.
    """
    wanted = frozenset(items.unique().to_list())
    found: dict[str, list[Any]] = {}
    for content in _entries(path):
        item = next((str(content[key]) for key in FIELDS["item"] if content.get(key)), "")
        if item in wanted:
            found[item] = [COLUMNS[name][1](content) for name in names]
    columns = {
        name: pl.Series(name, [values[place] for values in found.values()], dtype=COLUMNS[name][0])
        for place, name in enumerate(names)
    }
    return pl.DataFrame({"item": pl.Series(list(found), dtype=pl.String), **columns})


def _entries(path: Path) -> Iterator[Mapping[str, Any]]:
    for _, text in TextLines(path, bad=BadRows()):
        try:
            content = json_or_literal(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(content, dict):
            yield content


def _category(content: Mapping[str, Any]) -> list[str] | None:
    """2018: `category`, a list; 2014 and 2023: `categories`, a list, in 2014 one of lists of which the first counts."""
    value = content.get("category") or content.get("categories")
    if isinstance(value, list) and value and isinstance(value[0], list):
        value = value[0]
    if not isinstance(value, list):
        return None
    texts = [cleaned_title(each) for each in value if isinstance(each, str)]
    return [text for text in texts if text] or None


def _brand(content: Mapping[str, Any]) -> str | None:
    """`brand`; in 2023 `store`."""
    return _text(content.get("brand") or content.get("store"))


def _description(content: Mapping[str, Any]) -> str | None:
    """`description`: a text, since 2018 a list of paragraphs."""
    value = content.get("description")
    if isinstance(value, list):
        value = " ".join(each for each in value if isinstance(each, str))
    return _text(value)


def _price(content: Mapping[str, Any]) -> float | None:
    """`price`: a number, or text such as `$1,299.00`; a range of prices is none."""
    value = content.get("price")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    match = _PRICE.match(value.strip()) if isinstance(value, str) else None
    return float(match.group(1).replace(",", "")) if match else None


def _text(value: Any) -> str | None:
    return (cleaned_title(value) or None) if isinstance(value, str) else None


COLUMNS: Mapping[str, tuple[Any, Callable[[Mapping[str, Any]], Any]]] = {
    "category": (pl.List(pl.String), _category),
    "brand": (pl.String, _brand),
    "description": (pl.String, _description),
    "price": (pl.Float64, _price),
}
