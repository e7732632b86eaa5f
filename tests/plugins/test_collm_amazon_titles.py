"""Titles and attributes from Amazon's metadata."""

from __future__ import annotations

import gzip
import html
import json
from pathlib import Path
from typing import Any

import pytest
from amazon_files import (
    DAY,
    TITLES,
    load,
    seconds,
    some_reviews,
    write_2018,
    write_lines,
)
from pydantic import ValidationError

from collm.contracts.data import InteractionTable
from collm.data.checks import check_table
from collm.errors import DataError
from collm_amazon.metadata import cleaned_title


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Plain", "Plain"),
        ("R&amp;B &#39;n&#x27; &eacute;clair", "R&B 'n' éclair"),
        ("Twice &amp;amp; thrice", "Twice & thrice"),
        ("AT&T; R&B", "AT&T; R&B"),
        ("<b>Bold</b> <I>Italic</I><br/>line", "Bold Italic line"),
        ("&lt;i&gt;Emma&lt;/i&gt;", "Emma"),
        ('<span class="a-size-large" id="x">Title</span>', "Title"),
        ('Cut off <span class="a-size', "Cut off"),
        ("I <3 You, a < b > c", "I <3 You, a < b > c"),
        ("Learning <canvas> &lt;template&gt;", "Learning <canvas> <template>"),
        ("Seen <!-- hidden --> here", "Seen here"),
        ("  many \n blanks\u00a0here ", "many blanks here"),
        ("<br/>", ""),
        ("var aPageStart = (new Date()).getTime();", ""),
    ],
)
def test_cleaned_title(title: str, expected: str) -> None:
    assert cleaned_title(title) == expected


def titled(folder: Path, **settings: Any) -> InteractionTable:
    time = seconds(2017, 1, 1)
    reviews = [(f"A{n % 3}", f"B{n % 7}", float(n % 5 + 1), time + DAY * n) for n in range(140)]
    write_2018(folder, reviews, {})
    entries = [
        ("B0", "Old title"),
        ("B1", "Q&amp;A"),
        ("B2", "var x = (new Date()).getTime();"),
        ("B3", "  "),
        ("B4", None),
        ("B0", "New title"),
        ("B5", "Two  blanks"),
        ("B9", "Of no review &amp;"),
    ]
    write_lines(folder / "meta_Books.json.gz", (json.dumps({"asin": item, "title": title}) for item, title in entries))
    return load(folder, "amazon", category="Books", duplicates="keep-all", edition="unchecked", **settings)


def test_titles_are_joined_and_every_doubt_is_counted(tmp_path: Path) -> None:
    table = titled(tmp_path / "x")
    assert dict(zip(table.item_ids, table.titles, strict=True)) == {
        "": "",
        "B0": "New title",
        "B1": "Q&A",
        "B2": "item B2",
        "B3": "item B3",
        "B4": "item B4",
        "B5": "Two blanks",
    }
    assert "reviews of items that the metadata does not list: 20 (of 1 items), dropped" in table.notes
    assert "further titles of items listed several times: 1, not used (the last counts)" in table.notes
    assert "titles that are script of a web page: 1, not used" in table.notes
    assert "titles that held HTML entities or tags: 1, decoded or removed" in table.notes
    assert "items without a title in the metadata: 3 of 6, called 'item <id>'" in table.notes


def test_titles_as_published(tmp_path: Path) -> None:
    table = titled(tmp_path / "x", titles="as-published", unlisted="keep")
    assert list(table.titles)[2:] == ["Q&amp;A", "item B2", "item B3", "item B4", "Two  blanks", "item B6"]
    assert "reviews of items that the metadata does not list: 20 (of 1 items), kept as 'item <id>'" in table.notes


def test_no_metadata_is_needed_without_titles(tmp_path: Path, books: Path) -> None:
    write_lines(
        tmp_path / "Books_5.json.gz", gzip.decompress((books / "Books_5.json.gz").read_bytes()).decode().splitlines()
    )
    table = load(tmp_path, titles="none", edition="unchecked")
    assert table.titles[1] == f"item {table.item_ids[1]}"
    with pytest.raises(DataError, match=r"needs meta_Books\.json\.gz .*found Books_5\.json\.gz"):
        load(tmp_path, edition="unchecked")


NAMES = ("category", "brand", "description", "price")
ENTRIES = {
    "2014": {
        "B00": {
            "categories": [["Books", "Art &amp; Craft"], ["Other"]],
            "brand": "A",
            "description": "One.",
            "price": 3.5,
        },
        "B01": {"categories": [[]], "price": 0.99},
    },
    "2018": {
        "B00": {"category": ["Books", "Art &amp; Craft"], "brand": "A", "description": ["One."], "price": "$3.50"},
        "B01": {"category": [], "brand": "", "description": [], "price": "$.99 - $5.00"},
    },
    "2023": {
        "B00": {"categories": ["Books", "Art &amp; Craft"], "store": "A", "description": ["One."], "price": 3.5},
        "B01": {"categories": [], "store": None, "description": [], "price": None},
    },
}


@pytest.mark.parametrize("edition", ENTRIES)
def test_attributes_have_one_form_in_every_edition(tmp_path: Path, edition: str) -> None:
    entries = ENTRIES[edition]
    folder = write_2018(tmp_path, some_reviews(), TITLES)
    key = "parent_asin" if edition == "2023" else "asin"
    lines = [json.dumps({"title": title, key: item, **entries.get(item, {})}) for item, title in TITLES.items()]
    write_lines(folder / "meta_Books.json.gz", lines)
    settings: dict[str, Any] = {"edition": "unchecked", "item_reviews": 0, "user_reviews": 0, "item_attributes": NAMES}
    table = load(folder, **settings)
    check_table(table)
    assert table.item_attributes is not None
    found = dict(zip(table.item_ids, table.item_attributes.rows(), strict=True))
    assert found[""] == (None,) * 4
    assert found["B00"] == (["Books", "Art & Craft"], "A", "One.", 3.5)
    assert found["B01"] == (None, None, None, 0.99 if edition == "2014" else None)
    assert found["B02"] == (None,) * 4


def test_attributes_of_real_metadata_beside_json(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "amazon2018-gift-cards"
    table = load(folder, "amazon", category="Gift_Cards", item_attributes=("brand", "category"))
    assert table.item_attributes is not None
    with gzip.open(folder / "meta_Gift_Cards.json.gz", "rt", encoding="utf-8") as file:
        listed = {entry["asin"]: entry for entry in map(json.loads, file)}
    rows = table.item_attributes.rows()
    for item, (brand, category) in zip(list(table.item_ids)[1:], rows[1:], strict=True):
        assert (brand or "") == " ".join(html.unescape(listed[item].get("brand", "")).split())
        assert (category or []) == [html.unescape(each) for each in listed[item]["category"]]
    assert sum(brand is not None for brand, _ in rows) > len(rows) / 2


def test_attributes_need_the_metadata(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="which `titles: none` does not read"):
        load(tmp_path, titles="none", item_attributes=("brand",))
