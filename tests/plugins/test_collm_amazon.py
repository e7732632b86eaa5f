"""Amazon reviews: three editions' formats, each rule of the recipe beside a count by hand, broken and missing files."""

from __future__ import annotations

import gzip
import html
import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pytest
from pydantic import ValidationError

from collm.component import BuildContext
from collm.contracts.data import InteractionTable
from collm.data.checks import check_table, table_counts
from collm.errors import DataError
from collm.ingest.bad_rows import BadRowsError
from collm.testing.dataset_suite import DatasetContract
from collm_amazon import recipe, register_datasets, source
from collm_amazon.metadata import cleaned_title

COMPONENTS = {component.name: component for component in register_datasets()}
DAY = 86_400
Review = tuple[str, str, float, int]  # user, item, stars, seconds


def seconds(year: int, month: int, day: int) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp())


def review_2014(review: Review) -> dict[str, Any]:
    user, item, stars, time = review
    return {"reviewerID": user, "asin": item, "helpful": [0, 1], "overall": stars, "unixReviewTime": time}


def review_2018(review: Review) -> dict[str, Any]:
    user, item, stars, time = review
    return {
        "overall": stars,
        "verified": True,
        "reviewerID": user,
        "asin": item,
        "reviewText": "Long \u2014 text",
        "unixReviewTime": time,
    }


def review_2023(review: Review) -> dict[str, Any]:
    user, item, stars, time = review
    return {
        "rating": stars,
        "title": "Title of the review",
        "asin": f"{item}-blue",
        "parent_asin": item,
        "user_id": user,
        "timestamp": time * 1000 + 7,
    }


def write_lines(path: Path, lines: Iterable[str]) -> None:
    content = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content, compresslevel=1) if path.suffix == ".gz" else content)


def write_2018(folder: Path, reviews: Iterable[Review], titles: Mapping[str, str], category: str = "Books") -> Path:
    folder.mkdir(exist_ok=True)
    write_lines(folder / f"{category}_5.json.gz", (json.dumps(review_2018(review)) for review in reviews))
    meta = (json.dumps({"category": [], "title": title, "asin": item}) for item, title in titles.items())
    write_lines(folder / f"meta_{category}.json.gz", meta)
    return folder


def some_reviews(n: int = 600, *, seed: int = 0) -> list[Review]:
    """Reviews of 2017 by 12 users on 30 items, some pairs twice."""
    draw = random.Random(seed)
    start = seconds(2017, 1, 1)
    return [
        (
            f"A{draw.randrange(12):02}",
            f"B{draw.randrange(30):02}",
            float(draw.randint(1, 5)),
            start + DAY * draw.randrange(365),
        )
        for _ in range(n)
    ]


TITLES = {f"B{item:02}": f"Book {item}" for item in range(30)}


def load(folder: Path | None, name: str = "amazon-book", **settings: Any) -> InteractionTable:
    config = COMPONENTS[name].config(name=name, path=folder, **settings)
    table: InteractionTable = COMPONENTS[name].load_factory()(config, context=BuildContext(Path("unused"))).load()
    return table


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_2018(tmp_path_factory.mktemp("amazon") / "books", some_reviews(), TITLES)


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


# -- the three editions ---------------------------------------------------------------------------------------------


def edition_files(folder: Path, edition: str, reviews: list[Review]) -> Path:
    folder.mkdir()
    if edition == "2014":
        write_lines(folder / "reviews_Books_5.json.gz", (json.dumps(review_2014(each)) for each in reviews))
        # The 2014 metadata is Python, not JSON: single quotes, and None where nothing is known.
        meta = ({"asin": item, "title": title, "price": None, "brand": "O'Hara"} for item, title in TITLES.items())
        write_lines(folder / "meta_Books.json.gz", map(str, meta))
        return folder
    if edition == "2018":
        return write_2018(folder, reviews, TITLES)
    write_lines(folder / "Books.jsonl.gz", (json.dumps(review_2023(each)) for each in reviews))
    meta = ({"main_category": "Books", "title": title, "parent_asin": item} for item, title in TITLES.items())
    write_lines(folder / "meta_Books.jsonl.gz", map(json.dumps, meta))
    return folder


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


# -- the recipe -----------------------------------------------------------------------------------------------------


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


# -- expected counts ------------------------------------------------------------------------------------------------


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


# -- titles ---------------------------------------------------------------------------------------------------------


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


# -- bad rows and files ---------------------------------------------------------------------------------------------


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


# -- settings -------------------------------------------------------------------------------------------------------


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


# -- real files -----------------------------------------------------------------------------------------------------


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
