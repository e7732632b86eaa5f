"""Amazon reviews: three editions' formats, each rule of the recipe beside a count by hand, broken and missing files."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pytest
from amazon_files import (
    COMPONENTS,
    DAY,
    TITLES,
    Review,
    edition_files,
    load,
    seconds,
    some_reviews,
    write_2018,
    write_lines,
)

from collm.data.checks import check_table, table_counts
from collm.errors import DataError
from collm.testing.dataset_suite import DatasetContract
from collm_amazon import recipe, source


class _OnBooks(DatasetContract):
    """The contract on generated files; the folder is set by the fixture."""

    settings: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture(autouse=True)
    def _files(self, books: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = {**self.settings, "path": str(books), "category": "Books", "edition": "unchecked"}
        monkeypatch.setattr(type(self), "settings", settings)


class TestAmazon(_OnBooks):
    component = COMPONENTS["amazon"]


class TestAmazonBook(_OnBooks):
    component = COMPONENTS["amazon-book"]


class TestVideoGames(_OnBooks):
    component = COMPONENTS["video-games"]


class TestCdsAndVinyl(_OnBooks):
    component = COMPONENTS["cds-and-vinyl"]


@pytest.mark.parametrize("edition", ["2014", "2018", "2023"])
def test_every_edition_gives_the_same_table(tmp_path: Path, books: Path, edition: str) -> None:
    same = load(books, edition="unchecked")
    other = load(edition_files(tmp_path / edition, edition, some_reviews()), edition="unchecked")
    check_table(other)
    assert other.frame.equals(same.frame)
    assert (other.user_ids, other.item_ids, other.titles) == (same.user_ids, same.item_ids, same.titles)


def test_milliseconds_order_the_reviews_of_a_second(tmp_path: Path) -> None:
    folder = edition_files(tmp_path / "x", "2023", [])
    lines = [
        {"rating": 5.0, "parent_asin": item, "user_id": "A", "timestamp": seconds(2020, 1, 1) * 1000 + late}
        for item, late in [("B01", 9), ("B02", 3), ("B03", 3), ("B04", 1000), ("B05", 2000)]
    ]
    write_lines(folder / "Books.jsonl.gz", map(json.dumps, lines))
    frame = load(folder, "amazon", category="Books", user_reviews=1, item_reviews=1).frame
    assert frame["order"].to_list() == [2, 0, 1, 3, 4]
    assert frame["timestamp"].diff().drop_nulls().to_list() == [0, 0, 1, 1]


def by_hand(reviews: list[Review]) -> tuple[list[int], list[int], list[int]]:
    """Source rows of train, valid and test by the published code's rules, with dictionaries and sorting only."""
    rows = [(row, *each) for row, each in enumerate(reviews, 1) if seconds(2017, 1, 1) <= each[3] < seconds(2018, 1, 1)]
    users, items = Counter(row[1] for row in rows), Counter(row[2] for row in rows)
    kept = [row for row in rows if users[row[1]] > 20 and items[row[2]] > 20]
    train = [row[0] for row in kept if row[4] < seconds(2017, 12, 1)]
    december = sorted((row[4], row[0]) for row in kept if row[4] >= seconds(2017, 12, 1))
    half = len(december) // 2
    return train, [row for _, row in december[:half]], [row for _, row in december[half:]]


def test_the_published_recipe_beside_a_count_by_hand(tmp_path: Path) -> None:
    outside = [("A01", "B01", 5.0, seconds(2016, 12, 31)), ("A01", "B01", 5.0, seconds(2018, 1, 1))]
    reviews = some_reviews(700) + outside + some_reviews(101, seed=1)
    folder = write_2018(tmp_path / "books", reviews, TITLES)
    table = load(folder, filter="more-than-once", edition="unchecked")
    check_table(table)
    rows = {name: part["row"].sort().to_list() for (name,), part in table.frame.group_by("split")}
    train, valid, test = by_hand(reviews)
    assert rows == {"train": train, "valid": sorted(valid), "test": sorted(test)}
    of_row = dict(zip(table.frame["row"], table.frame["label"], strict=True))
    assert of_row == {row: int(reviews[row - 1][2] > 4) for row in of_row}
    assert any("the halves of the held-out reviews meet" in note for note in table.notes)


def core_by_hand(pairs: list[tuple[int, int]], need_user: int, need_item: int) -> list[int]:
    places = list(range(len(pairs)))
    while True:
        users, items = Counter(pairs[place][0] for place in places), Counter(pairs[place][1] for place in places)
        fewer = [p for p in places if users[pairs[p][0]] >= need_user and items[pairs[p][1]] >= need_item]
        if fewer == places:
            return places
        places = fewer


def left(pairs: list[tuple[int, int]], **settings: Any) -> list[int]:
    users, items = zip(*pairs, strict=True)
    frame = pl.DataFrame({"user": users, "item": items, "place": range(len(pairs))})
    return recipe.frequent(frame, **settings)["place"].to_list()


@pytest.mark.parametrize("seed", range(8))
def test_k_core_beside_a_count_by_hand(seed: int) -> None:
    draw = random.Random(seed)
    pairs = [(draw.randrange(15), draw.randrange(20)) for _ in range(60)]
    assert left(pairs, rule="k-core", users=4, items=3) == core_by_hand(pairs, 4, 3)


def test_k_core_needs_several_rounds_and_the_other_filter_only_one() -> None:
    # User 1 leaves, then item 1 has too few, then user 0 has too few.
    pairs = [(0, 0), (0, 1), (1, 1), (2, 2), (2, 3), (3, 2), (3, 3)]
    assert left(pairs, rule="k-core", users=2, items=2) == [3, 4, 5, 6]
    assert left(pairs, rule="more-than-once", users=1, items=1) == [1, 3, 4, 5, 6]
    assert left(pairs, rule="more-than-once", users=0, items=0) == list(range(7))
    assert left(pairs, rule="more-than-once", users=2, items=0) == []


def held_out(days: list[int], **settings: Any) -> tuple[list[str], str]:
    start = seconds(2017, 12, 1)
    moments = [(start + DAY * day) * 1000 for day in days]
    frame = pl.DataFrame({"moment": moments, "timestamp": [m // 1000 for m in moments], "row": range(len(days))})
    split, sentence = recipe.split_held_out(frame, held_out_from=date(2017, 12, 1), **settings)
    return split.to_list(), sentence


def test_the_day_in_which_the_halves_meet_is_divided_in_file_order_or_kept_whole() -> None:
    days = [-1, 9, 5, 3, 5, 5]
    split, sentence = held_out(days, divide_day=True)
    assert split == ["train", "test", "valid", "valid", "test", "test"]
    assert "meet on 2017-12-06: of its 3 reviews 1 are validation" in sentence
    split, sentence = held_out(days, divide_day=False)
    assert split == ["train", "test", "test", "valid", "test", "test"]
    assert "all its 3 reviews are test" in sentence
    split, sentence = held_out([1, 2, 3, 4], divide_day=True)
    assert split == ["valid", "valid", "test", "test"]
    assert sentence.endswith("meet at the beginning of 2017-12-04")


def test_too_little_held_out() -> None:
    with pytest.raises(DataError, match="1 of 2 reviews are left from 2017-12-01 on"):
        held_out([-3, 0], divide_day=True)


def test_duplicates_the_newest_of_the_last_in_the_file(tmp_path: Path) -> None:
    time = seconds(2017, 5, 1)
    pair = [("A", "B01", 1.0, time + DAY), ("A", "B01", 5.0, time + 2 * DAY), ("A", "B01", 2.0, time + 2 * DAY)]
    rest = [("A", f"B{n:02}", 5.0, time + DAY * n) for n in range(2, 9)]
    folder = write_2018(tmp_path / "x", [*pair, *rest, ("A", "B01", 4.0, time)], TITLES)
    settings = {"category": "Books", "user_reviews": 0, "item_reviews": 0, "edition": "unchecked"}
    kept = load(folder, "amazon", **settings)
    assert kept.frame["row"].to_list() == list(range(3, 11))
    assert "reviews that repeat a user and item: 3, left out (the newest counts)" in kept.notes
    all_kept = load(folder, "amazon", duplicates="keep-all", **settings)
    assert all_kept.frame.height == 11
    assert "reviews that repeat a user and item: 3, kept" in all_kept.notes


def test_files_under_the_published_name_must_be_the_published_ones(books: Path) -> None:
    with pytest.raises(DataError, match=r"found 600 reviews of 2017 .* published edition has 3933994"):
        load(books)


def test_table_1_is_expected_of_the_published_files(books: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "BOOK_REVIEWS_2017", 600)
    table = load(books, filter="more-than-once")
    assert dict(table.expected) == {"train": 727_463, "valid": 25_747, "test": 25_747, "users": 22_966, "items": 34_153}
    assert any("727,468" in note for note in table.notes)
    with pytest.raises(DataError, match=r"train: found \d+, the recipe expects 727463"):
        check_table(table)
    for other in (
        {},
        {"filter": "more-than-once", "user_reviews": 3},
        {"filter": "more-than-once", "cut_day": "whole"},
    ):
        table = load(books, **{"user_reviews": 5, "item_reviews": 5, **other})
        assert not table.expected
        assert source.NOT_TABLE_1_NOTE in table.notes
        check_table(table)


def test_the_reference_profile_takes_the_published_rules() -> None:
    assert COMPONENTS["amazon-book"].profiles["reference"] == {"filter": "more-than-once", "titles": "as-published"}


def test_the_other_recipes_say_that_they_are_not_the_papers(tmp_path: Path) -> None:
    folder = write_2018(tmp_path / "x", some_reviews(), TITLES, category="Video_Games")
    table = load(folder, "video-games")
    assert "the paper gives no recipe" in table.notes[0]
    counts = table_counts(table)
    assert counts["train"] > 8 * counts["test"] * 0.9
