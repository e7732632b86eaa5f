"""Amazon reviews: bad rows, missing files, settings that cannot be, real files."""

from __future__ import annotations

import gzip
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from amazon_files import (
    COMPONENTS,
    TITLES,
    load,
    review_2018,
    seconds,
    some_reviews,
    write_2018,
    write_lines,
)
from pydantic import ValidationError

from collm.data.checks import check_table, table_counts
from collm.errors import DataError
from collm.ingest.bad_rows import BadRowsError


def with_lines(folder: Path, *lines: bytes) -> Path:
    write_2018(folder, [], TITLES)
    sound = [json.dumps(review_2018(each)).encode() for each in some_reviews()]
    (folder / "Books_5.json.gz").write_bytes(gzip.compress(b"\n".join([*sound, *lines])))
    return folder


def line(**changes: Any) -> bytes:
    content = review_2018(("A01", "B01", 5.0, seconds(2017, 3, 1))) | changes
    return json.dumps({name: value for name, value in content.items() if value is not ...}).encode()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"{", "not JSON"),
        (line(overall="5.0"), "rating is not a number"),
        (line(overall=6.0), "the rating lies outside 0 to 5"),
        (line(overall=-1), "the rating lies outside 0 to 5"),
        (line(reviewerID=...), "user is missing"),
        (line(asin=None), "item is missing"),
        (line(unixReviewTime=...), "the time is missing"),
        (line().replace(b"A01", b"\xff"), "not UTF-8 text"),
    ],
)
def test_bad_rows_stop_the_run_unless_allowed(tmp_path: Path, bad: bytes, reason: str) -> None:
    folder = with_lines(tmp_path / "x", bad)
    with pytest.raises(BadRowsError, match=rf"^1 bad row, .*Books_5\.json\.gz line 601: {reason}"):
        load(folder, edition="unchecked")
    table = load(folder, edition="unchecked", max_bad_rows=1)
    assert table.bad_rows is not None
    assert table.bad_rows.select("line", "reason").rows() == [(601, reason)]
    assert any(reason in note and "quarantine.csv" in note for note in table.notes)


def test_times_of_no_possible_year(tmp_path: Path) -> None:
    folder = with_lines(tmp_path / "x", line(unixReviewTime=12))
    with pytest.raises(BadRowsError, match="the time lies before 1990 or after 2100"):
        load(folder, "amazon", category="Books", edition="unchecked")


def test_reviews_outside_the_days_used_are_not_judged(tmp_path: Path) -> None:
    folder = with_lines(tmp_path / "x", line(unixReviewTime=seconds(2016, 1, 1), overall=9.0))
    assert load(folder, edition="unchecked").bad_rows is None


def test_no_stars_count_as_negative(tmp_path: Path) -> None:
    table = load(with_lines(tmp_path / "x", line(overall=0)), edition="unchecked")
    assert "reviews without stars (rating 0): 1, counted as label 0" in table.notes


def test_bad_metadata_is_reported(tmp_path: Path) -> None:
    folder = with_lines(tmp_path / "x")
    entries = [json.dumps({"asin": item, "title": title}) for item, title in TITLES.items()]
    write_lines(folder / "meta_Books.json.gz", [*entries, '{"asin": "B99", "title": ["a"]}', "nonsense("])
    with pytest.raises(BadRowsError, match=r"2 bad rows.*line 31: title is not text; .*line 32: not JSON"):
        load(folder, edition="unchecked")


def test_the_real_file_that_is_cut_off(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "amazon2014-digital-music"
    names = {"category": "Digital_Music", "reviews": "reviews_truncated.json.gz", "titles": "none"}
    with pytest.raises(BadRowsError, match=r"reviews_truncated\.json\.gz.*: file ends in the middle"):
        load(folder, "amazon", **names)
    table = load(folder, "amazon", max_bad_rows=1, **names)
    check_table(table)
    assert any("file ends in the middle: 1" in note for note in table.notes)


def test_missing_and_ambiguous_files(tmp_path: Path, books: Path) -> None:
    with pytest.raises(DataError, match=r"'amazon-book' needs Books_5\.json\.gz .*give the folder"):
        load(None)
    with pytest.raises(DataError, match=r"'.*Books_5\.json\.gz' is a file; 'amazon-book' needs the folder"):
        load(books / "Books_5.json.gz")
    with pytest.raises(DataError, match="does not exist"):
        load(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"needs Toys_5\.json\.gz .*found Books_5\.json\.gz, meta_Books\.json\.gz"):
        load(books, "amazon", category="Toys")
    write_2018(tmp_path / "two", some_reviews(), TITLES)
    write_lines(tmp_path / "two" / "Books.json.gz", [])
    with pytest.raises(DataError, match=r"several files fit: Books\.json\.gz, Books_5\.json\.gz; name one in"):
        load(tmp_path / "two")
    assert load(tmp_path / "two", reviews="Books_5.json.gz", edition="unchecked").frame.height


def test_files_one_folder_down_and_other_case(tmp_path: Path) -> None:
    write_2018(tmp_path / "inner", some_reviews(), TITLES, category="books")
    assert load(tmp_path, edition="unchecked").frame.height


def test_nothing_left(books: Path) -> None:
    with pytest.raises(DataError, match="no review lies between first_day and end_day"):
        load(
            books,
            first_day=date(2016, 1, 1),
            held_out_from=date(2016, 2, 1),
            end_day=date(2016, 3, 1),
        )
    with pytest.raises(DataError, match=r"user_reviews 1000 and item_reviews 20 leaves none of 600 reviews"):
        load(books, user_reviews=1000, edition="unchecked")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("CDs & Vinyl", "CDs_and_Vinyl"),
        ("Video Games", "Video_Games"),
        ("Clothing, Shoes & Jewelry", "Clothing_Shoes_and_Jewelry"),
    ],
)
def test_category_names_are_understood(given: str, found: str) -> None:
    assert COMPONENTS["amazon"].config(name="amazon", category=given).category == found


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "held-out"}, "needs held_out_from"),
        ({"held_out_from": "2017-12-01"}, "belongs to split held-out"),
        ({"valid_share": 0.5, "test_share": 0.5}, "sum to less than 1"),
        (
            {"first_day": "2017-02-01", "end_day": "2017-01-01"},
            "first_day 2017-02-01 must be before",
        ),
        ({"reviews": "a/b.json"}, "name of a file"),
        ({"positive_above": 5}, "less than 5"),
        ({"user_reviews": -1}, "greater than or equal to 0"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        COMPONENTS["amazon"].config(name="amazon", category="Books", **settings)


def test_recipes_keep_the_bounds_and_words_of_the_fields() -> None:
    general = COMPONENTS["amazon"].config.model_fields
    for component in COMPONENTS.values():
        for name, info in component.config.model_fields.items():
            if name in general:
                assert (info.description, info.annotation) == (general[name].description, general[name].annotation)
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        COMPONENTS["amazon-book"].config(name="amazon-book", user_reviews=-1)


def test_the_real_gift_cards(shared_data: Path) -> None:
    table = load(shared_data / "amazon2018-gift-cards", "amazon", category="Gift Cards", user_reviews=0, item_reviews=0)
    check_table(table)
    assert table_counts(table) | {"train": 0, "valid": 0, "test": 0} == {
        "train": 0,
        "valid": 0,
        "test": 0,
        "users": 458,
        "items": 148,
    }
    assert table.frame.height == 2_965
    assert "reviews that repeat a user and item: 7, left out (the newest counts)" in table.notes
    assert int(table.frame["label"].sum()) > 2_700
    assert not any(title.startswith("item ") for title in table.titles)
    assert not any("&#39;" in title or "&amp;" in title for title in table.titles)
    assert "Amazon eGift Card" in table.titles
    everything = load(
        shared_data / "amazon2018-gift-cards",
        "amazon",
        category="Gift_Cards",
        user_reviews=0,
        item_reviews=0,
        duplicates="keep-all",
    )
    assert everything.frame.height == 2_972
    ratings = dict(everything.frame["rating"].value_counts().iter_rows())
    assert ratings == {5.0: 2_752, 4.0: 154, 3.0: 33, 2.0: 11, 1.0: 22}
