"""New rows of a file: labels by the parent's rule, and every row that cannot be meant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from collm.contracts.data import InteractionTable, Limit
from collm.data.prepare import prepare
from collm.data.prepared import PreparedData
from collm.errors import DataError
from collm.trained.new_rows import RatingRule, read_new_rows

START = 1_600_000_000


class Source:
    def __init__(self, table: InteractionTable) -> None:
        self.table = table

    def content_hash(self) -> str:
        return "rows"

    def load(self) -> InteractionTable:
        return self.table


class Strictly:
    visibility = "strictly-earlier"


def table(labels: dict[float, int] | None = None) -> InteractionTable:
    """Twelve rows of three users and four items, a rating of 1 to 5 each, liked from 4; one second each."""
    labels = labels or {1: 0, 2: 0, 3: 0, 4: 1, 5: 1}
    ratings = [1.0, 5, 2, 4, 3, 5, 1, 4, 2, 5, 3, 4]
    frame = pl.DataFrame(
        {
            "user": pl.Series([1, 2, 3] * 4, dtype=pl.Int32),
            "item": pl.Series([1, 2, 3, 4] * 3, dtype=pl.Int32),
            "label": pl.Series([labels[each] for each in ratings], dtype=pl.Int8),
            "rating": pl.Series(ratings, dtype=pl.Float32),
            "timestamp": pl.Series(range(START, START + 12), dtype=pl.Int64),
            "split": ["train"] * 8 + ["valid"] * 2 + ["test"] * 2,
            "row": pl.Series(range(12), dtype=pl.Int64),
            "order": pl.Series([place // 3 for place in range(12)], dtype=pl.Int64),
        }
    )
    return InteractionTable(frame, ["", "a", "b", "c"], ["", "1", "2", "3", "4"], ["", "A", "B", "C", "D"], "by row")


def data_of(tmp_path: Path, given: InteractionTable) -> PreparedData:
    prepare(Source(given), limit=Limit(), history=Strictly(), folder=tmp_path / "data")
    return PreparedData.open(tmp_path / "data")


@pytest.fixture
def data(tmp_path: Path) -> PreparedData:
    return data_of(tmp_path, table())


def read(tmp_path: Path, data: PreparedData, text: str, **settings: Any) -> Any:
    (tmp_path / "new.csv").write_text(text, encoding="utf-8")
    return read_new_rows(tmp_path / "new.csv", data, **{"needs_titles": False, **settings})


def test_ratings_become_labels_as_in_the_parents_rows(tmp_path: Path, data: PreparedData) -> None:
    assert RatingRule.of(data) == RatingRule(3, 4)
    text = f"user,item,rating,timestamp\na,1,4.5,{START + 20}\nd,9,3,{START + 21}\n"
    new, said = read(tmp_path, data, text)
    assert new.frame["label"].to_list() == [1, 0]
    assert new.frame["rating"].to_list() == [4.5, 3.0]
    assert (new.new_ids(data, "user"), new.new_ids(data, "item")) == (["d"], ["9"])
    assert said == []
    with pytest.raises(DataError, match=r"line 2: rating 3.5 lies between: .* label 0 up to 3 and label 1 from 4"):
        read(tmp_path, data, f"user,item,rating,timestamp\na,1,3.5,{START + 20}\n")


def test_labels_are_words_or_numbers_and_agree_with_ratings(tmp_path: Path, data: PreparedData) -> None:
    text = "user,item,label,timestamp\n" + "".join(
        f"a,1,{word},{START + 20 + place}\n" for place, word in enumerate(("yes", "no", "1", "0"))
    )
    assert read(tmp_path, data, text)[0].frame["label"].to_list() == [1, 0, 1, 0]
    both = f"user,item,label,rating,timestamp\na,1,1,2,{START + 20}\n"
    with pytest.raises(DataError, match="line 2: label 1 with rating 2, but the parent's rows have label 0 up to 3"):
        read(tmp_path, data, both)


def test_labels_that_do_not_follow_from_ratings_must_be_given(tmp_path: Path) -> None:
    mixed = data_of(tmp_path, table({1: 1, 2: 0, 3: 1, 4: 0, 5: 1}))
    assert RatingRule.of(mixed) is None
    with pytest.raises(DataError, match="labels do not follow from ratings; give a column label"):
        read(tmp_path, mixed, f"user,item,rating,timestamp\na,1,4,{START + 20}\n")
    text = f"user,item,label,rating,timestamp\na,1,0,5,{START + 20}\n"
    assert read(tmp_path, mixed, text)[0].frame["label"].to_list() == [0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user,item,label,timestamp\n", "no rows below its header, so there is nothing to update with"),
        ("user,item,label\na,1,1\n", "lacks the column timestamp"),
        ("user,item,timestamp\na,1,1600000099\n", "neither a column label nor a column rating"),
        ("user,item,label,time\na,1,1,1600000099\n", r"unknown column 'time' \(did you mean 'timestamp'\?\)"),
        ("user,item,lable,timestamp\na,1,1,1600000099\n", r"unknown column 'lable' \(did you mean 'label'\?\)"),
        ("user,item,label,timestamp\na,1,maybe,1600000099\n", "line 2: label must be 0 or 1.*'maybe'"),
        ("user,item,label,timestamp\na,1,,1600000099\n", "line 2: label must be 0 or 1.*got nothing"),
        ("user,item,rating,timestamp\na,1,good,1600000099\n", "line 2: rating must be a number.*'good'"),
        ("user,item,label,timestamp\na,1,1,soon\n", "line 2: time must be whole seconds"),
        ("user,item,label,timestamp\na,,1,1600000099\n", "line 2: item is empty"),
        ("user,item,label,timestamp\na,1,1,1600000000\n", "line 2: user 'a' has item '1' at this time in the parent's"),
        (
            "user,item,label,timestamp\nd,1,1,1600000099\nd,1,0,1600000099\n",
            "line 3: user, item and time are those of line 2",
        ),
    ],
)
def test_rows_that_cannot_be_meant(tmp_path: Path, data: PreparedData, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, data, text)


def test_a_language_model_needs_titles_of_new_items_alone(tmp_path: Path, data: PreparedData) -> None:
    text = f"user,item,label,timestamp,title\na,9,1,{START + 20},\na,1,0,{START + 21},\n"
    with pytest.raises(DataError, match="line 2: item '9' is new and has no title; the language model reads titles"):
        read(tmp_path, data, text, needs_titles=True)
    new, _ = read(tmp_path, data, text.replace(f"{START + 20},", f"{START + 20},Nine"), needs_titles=True)
    assert new.titles == {"9": "Nine"}


def test_what_is_not_as_usual_is_said(tmp_path: Path, data: PreparedData) -> None:
    text = f"user,item,label,timestamp,title\na,1,1,{START - 5},Other\nd,2,1,{START + 20},B\n"
    _, said = read(tmp_path, data, text)
    assert said[0].startswith("1 of 2 new rows are earlier than the last row of the parent's data")
    assert said[1] == "Item 1: the title of the parent's data 'A' is kept, not 'Other' of the new rows."
    assert said[2].startswith("All 2 new rows have the label 1, so no AUC")


def test_ratings_of_another_scale_are_said(tmp_path: Path, data: PreparedData) -> None:
    path = tmp_path / "scale.csv"
    for ratings, said in (((1, 5), False), ((90, 20), True), ((-1, 4), True)):
        lines = (f"a,{item},{rating},{START + 50 + item}\n" for item, rating in enumerate(ratings, start=1))
        path.write_text("user,item,rating,timestamp\n" + "".join(lines), encoding="utf-8")
        _, notes = read_new_rows(path, data, needs_titles=False)
        assert any("outside of those of the parent's data, 1 to 5" in note for note in notes) is said


def test_without_times_the_order_of_the_file_counts(tmp_path: Path) -> None:
    untimed = data_of(tmp_path, replace(table(), has_times=False))
    new, _ = read(tmp_path, untimed, "user,item,label\na,1,1\na,2,0\n")
    assert new.frame["timestamp"].to_list() == [START + 12, START + 13]
    with pytest.raises(DataError, match="column timestamp, but the parent's data has no times"):
        read(tmp_path, untimed, f"user,item,label,timestamp\na,1,1,{START + 20}\n")
