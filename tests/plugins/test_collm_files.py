"""Dataset `files`: every rule beside a count by hand, every kind of bad row and wrong spec by name."""

from __future__ import annotations

import csv
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, get_args

import polars as pl
import pytest
from pydantic import ValidationError

from collm.component import BuildContext
from collm.contracts.data import InteractionTable
from collm.data.checks import check_table
from collm.errors import DataError
from collm.ingest import table_files, times
from collm.ingest.bad_rows import BadRowsError
from collm.spec.fingerprint import config_payload
from collm.testing.dataset_suite import DatasetContract
from collm_files import config, register_datasets
from collm_files.config import IMPLICIT, LAST_OUT_LEAKS, NO_TIMES, RANDOM_LEAKS, FilesConfig
from collm_files.source import FILE_ORDER_RULE, TIE_RULE, build

(COMPONENT,) = register_datasets()
START = 1_600_000_000
COLUMNS = {"user": "who", "item": "what", "rating": "stars", "timestamp": "when"}
Row = tuple[Any, ...]


def rows(n: int = 200) -> list[Row]:
    generator = random.Random(1)
    pairs = generator.sample([(user, item) for user in range(12) for item in range(40)], n)
    return [
        (f"u{user}", item, generator.choice([1, 2, 3, 4, 5]), START + generator.randrange(10**6))
        for user, item in pairs
    ]


def write(path: Path, content: list[Row], header: Row = ("who", "what", "stars", "when")) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *content])
    return path


def config_of(path: Path, /, **settings: Any) -> FilesConfig:
    given = {
        "interactions": path,
        "columns": COLUMNS,
        "label": {"from": "rating", "positive_above": 3},
        "split": {"by": "quantiles"},
    }
    return FilesConfig.model_validate({"name": "files", **given, **settings})


def load(path: Path, **settings: Any) -> InteractionTable:
    table = build(config_of(path, **settings), context=BuildContext(cache_dir=path.parent)).load()
    check_table(table)
    return table


def pairs(table: InteractionTable, **where: Any) -> set[tuple[str, str]]:
    """Returns raw (user, item) of the rows with these values."""
    frame = table.frame
    for name, value in where.items():
        frame = frame.filter(frame[name] == value)
    return {(table.user_ids[user], table.item_ids[item]) for user, item in frame.select("user", "item").iter_rows()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "sales.csv", rows())


class TestFiles(DatasetContract):
    component = COMPONENT
    settings: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture(autouse=True)
    def _files(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        config = config_of(path).model_dump(mode="json", exclude={"name"}, exclude_none=True)
        monkeypatch.setattr(type(self), "settings", config)


def test_labels_and_times(path: Path) -> None:
    table = load(path)
    assert pairs(table, label=1) == {(user, str(item)) for user, item, stars, _ in rows() if stars > 3}
    assert sorted(table.frame["timestamp"]) == sorted(when for *_, when in rows())
    assert table.tie_rule == TIE_RULE
    assert "timestamps read as seconds since 1970" in table.notes
    assert "no titles are given: prompts show item ids" in table.notes


def test_quantiles_are_cut_at_two_moments(path: Path) -> None:
    frame = load(path, split={"by": "quantiles", "valid": 0.2, "test": 0.1}).frame
    times = {split: frame.filter(frame["split"] == split)["timestamp"] for split in ("train", "valid", "test")}
    assert times["train"].max() < times["valid"].min() <= times["valid"].max() < times["test"].min()  # type: ignore[operator]
    assert (len(times["train"]), len(times["valid"]), len(times["test"])) == (140, 40, 20)


def test_dates_are_midnights(path: Path) -> None:
    days = {"valid_from": "2020-09-20", "test_from": "2020-09-22"}
    table = load(path, split={"by": "dates", **days})
    first = {name: datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() for name, day in days.items()}
    expected = {(user, str(item)) for user, item, _, when in rows() if first["valid_from"] <= when < first["test_from"]}
    assert pairs(table, split="valid") == expected


def test_leave_last_out_takes_each_users_last(path: Path) -> None:
    config = config_of(path, split={"by": "leave-last-out"})
    assert LAST_OUT_LEAKS in config.warnings()
    newest: dict[str, tuple[int, str]] = {}
    for user, item, _, when in rows():
        newest[user] = max(newest.get(user, (0, "")), (when, str(item)))
    assert pairs(load(path, split={"by": "leave-last-out"}), split="test") == {
        (user, item) for user, (_, item) in newest.items()
    }


def test_a_random_split_says_what_it_leaks(path: Path) -> None:
    split = {"by": "random", "valid": 0.25, "test": 0.25}
    assert config_of(path, split=split).warnings() == (RANDOM_LEAKS,)
    one, other = load(path, split=split), load(path, split={**split, "seed": 1})
    assert pairs(one, split="test") == pairs(load(path, split=split), split="test")
    assert pairs(one, split="test") != pairs(other, split="test")
    assert len(pairs(one, split="test")) == 50


def test_a_split_column(tmp_path: Path) -> None:
    parts = ["train"] * 150 + ["VAL"] * 20 + ["dev"] * 10 + ["test"] * 15 + [""] * 5
    named = [(*row, part) for row, part in zip(rows(), parts, strict=True)]
    path = write(tmp_path / "a.csv", named, ("who", "what", "stars", "when", "part"))
    columns = {**COLUMNS, "split": "part"}
    table = load(path, columns=columns, split={"by": "column"})
    assert pairs(table, split="valid") == {
        (user, str(item)) for user, item, *_, part in named if part in ("VAL", "dev")
    }
    assert table.frame["split"].null_count() == 5
    write(path, [*named, ("u1", 99, 3, START, "holdout")], ("who", "what", "stars", "when", "part"))
    with pytest.raises(BadRowsError, match="split is not one of train, valid, test: 1"):
        load(path, columns=columns, split={"by": "column"})


def test_without_times_the_file_is_the_history(path: Path) -> None:
    columns = {**COLUMNS, "timestamp": None}
    split = {"by": "random"}
    assert config_of(path, columns=columns, split=split).warnings() == (NO_TIMES,)
    table = load(path, columns=columns, split=split)
    assert table.tie_rule == FILE_ORDER_RULE
    raw = [(user, str(item)) for user, item, *_ in rows()]
    ordered = table.frame.sort("order")
    found = [(table.user_ids[user], table.item_ids[item]) for user, item in ordered.select("user", "item").iter_rows()]
    for user in {user for user, _ in raw}:
        assert [pair for pair in found if pair[0] == user] == [pair for pair in raw if pair[0] == user]
    for rule in ("quantiles", "dates", "leave-last-out"):
        days = {"valid_from": "2020-01-01", "test_from": "2020-01-02"} if rule == "dates" else {}
        with pytest.raises(ValidationError, match=rf"\{{by: {rule}\}} needs columns\.timestamp"):
            config_of(path, columns=columns, split={"by": rule, **days})


def test_repeated_pairs(path: Path) -> None:
    user, item, _, when = rows()[0]
    write(path, [*rows(), (user, item, 1, when - 5), (user, item, 2, when + 5)])
    table = load(path)
    assert table.frame.height == 200
    assert "2 rows repeat a user and item; of each pair only the newest is kept" in table.notes
    kept = table.frame.filter(table.frame["timestamp"] == when + 5)
    assert kept["label"].to_list() == [0]
    assert load(path, duplicates="keep-all").frame.height == 202
    with pytest.raises(DataError, match=r"2 rows repeat a user and item \(first in lines 2, 202, 203\)"):
        load(path, duplicates="refuse")


def test_titles_of_an_items_file(path: Path, tmp_path: Path) -> None:
    names = [(item, f"Film {item}") for item in range(30)] + [(31, "")]
    items = write(tmp_path / "items.csv", names, ("no", "name"))
    columns = {**COLUMNS, "title": "name", "items_key": "no"}
    table = load(path, items=items, columns=columns)
    titles = dict(zip(table.item_ids, table.titles, strict=True))
    assert titles["3"] == "Film 3"
    n_used = len({item for _, item, *_ in rows()})
    n_untitled = len({item for _, item, *_ in rows() if item >= 30})
    assert f"{n_untitled} of {n_used} items have no title and are called 'item <id>'" in table.notes
    write(items, [*names, (3, "Film 3"), (3, "Another film")], ("no", "name"))
    with pytest.raises(BadRowsError, match=r"the item has another title in an earlier row: 1.*items\.csv line 34"):
        load(path, items=items, columns=columns)
    with pytest.raises(ValidationError, match="`items` is given, so `title` must name its column"):
        config_of(path, items=items)


def test_titles_beside_the_interactions(tmp_path: Path) -> None:
    named = [(*row, "" if row[1] % 10 == 0 else f"Film {row[1]}") for row in rows()]
    named.append(("u0", 1, 3, START + 10**6, "Film One"))
    path = write(tmp_path / "a.csv", named, ("who", "what", "stars", "when", "name"))
    table = load(path, columns={**COLUMNS, "title": "name"})
    titles = dict(zip(table.item_ids, table.titles, strict=True))
    assert titles["1"] == "Film 1"
    assert any(note.startswith("1 further titles of items") for note in table.notes)
    assert any("items have no title" in note for note in table.notes)


def test_a_ready_label(tmp_path: Path) -> None:
    columns = {"user": "who", "item": "what", "timestamp": "when", "label": "stars"}
    spelled = [(user, item, ["0", "1", "true", "False"][stars % 4], when) for user, item, stars, when in rows()]
    path = write(tmp_path / "a.csv", spelled)
    table = load(path, columns=columns, label={"from": "label"})
    assert pairs(table, label=1) == {(user, str(item)) for user, item, given, _ in spelled if given in ("1", "true")}
    write(path, [*spelled, ("u1", 99, "2", START)])
    with pytest.raises(BadRowsError, match="label is not 0 or 1: 1"):
        load(path, columns=columns, label={"from": "label"})


def test_bad_values_are_named_and_may_be_left_out(path: Path) -> None:
    wrong: list[Row] = [
        ("u1", 90, "many", START),
        ("u1", 91, "inf", START),
        ("u1", 92, 0, START),
        ("u1", 93, 6, START),
        ("u1", 94, 3, "soon"),
        ("u1", 95, 3, 17),
        ("", 96, 3, START),
        ("u1", "", 3, START),
        ("u1", 97, "", START),
        ("u1", 98, 3, ""),
    ]
    write(path, [*rows(), *wrong])
    label = {"from": "rating", "positive_above": 3, "lowest": 1, "highest": 5}
    with pytest.raises(BadRowsError, match=r"10 bad rows, dataset\.max_bad_rows allows 9") as caught:
        load(path, label=label, max_bad_rows=9)
    found = dict(caught.value.rows.select("line", "reason").iter_rows())
    assert [found[202 + place] for place in range(len(wrong))] == [
        "rating is not a number",
        "rating is not finite",
        "rating is below 1",
        "rating is above 5",
        "timestamp is not a time",
        "timestamp lies before 1990 or after 2100",
        "user is missing",
        "item is missing",
        "rating is missing",
        "timestamp is missing",
    ]
    table = load(path, label=label, max_bad_rows=10)
    assert table.frame.height == 200
    assert table.bad_rows is not None
    assert table.bad_rows.height == 10
    assert any(note.startswith("10 bad rows left out") for note in table.notes)


def test_nothing_to_learn_from_is_an_error(path: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no row is positive: ratings run from 1\.0 to 5\.0, positive_above is 5\.0"):
        load(path, label={"from": "rating", "positive_above": 5})
    with pytest.raises(DataError, match="no row is negative"):
        load(path, label={"from": "rating", "positive_above": 0})
    with pytest.raises(DataError, match=r"no rows for valid, test \(of 200 rows split by dates: train 200; times"):
        load(path, split={"by": "dates", "valid_from": "2030-01-01", "test_from": "2031-01-01"})
    with pytest.raises(DataError, match="holds no rows below the line that names its columns"):
        load(write(tmp_path / "empty.csv", []))


def test_wrong_names_and_places(path: Path) -> None:
    with pytest.raises(
        DataError, match=r"columns\.user: no column 'whom' \(did you mean 'who'\?\); the file has who, what"
    ):
        load(path, columns={**COLUMNS, "user": "whom"})
    with pytest.raises(DataError, match=r"dataset\.columns\.timestamp: 'what' is not a column of times"):
        load(path, columns={**COLUMNS, "timestamp": "what", "item": "when"})
    with pytest.raises(DataError, match=r"dataset\.interactions: '.*gone\.csv': no such file"):
        load(path.with_name("gone.csv"))
    with pytest.raises(DataError, match="is a folder"):
        folder = path.with_name("folder.csv")
        folder.mkdir()
        load(folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label": "implicit"}, "implicit feedback .positives only. is not read"),
        ({"label": {"from": "implicit"}}, "implicit feedback .positives only. is not read"),
        ({"label": {"from": "rating"}}, "needs positive_above"),
        ({"label": {"from": "label"}}, "label"),
        ({"label": {"from": "rating", "positive_above": 3, "lowest": 5, "highest": 1}}, "must be smaller than highest"),
        ({"columns": {**COLUMNS, "timestamp": "stars"}}, "'stars' is named for both rating and timestamp"),
        ({"split": {"by": "quantiles", "valid": 0.6, "test": 0.5}}, "leave no rows for training"),
        ({"split": {"by": "quantiles", "seed": 1}}, "takes valid, test; remove seed"),
        ({"split": {"by": "dates"}}, "needs valid_from and test_from"),
        ({"split": {"by": "dates", "valid_from": "2020-02-01", "test_from": "2020-01-01"}}, "must be before test_from"),
        ({"split": {"by": "column"}}, "split"),
        ({"interactions": Path("x.xlsx")}, "unknown ending; readable are"),
        ({"path": Path()}, "'files' has no folder"),
        ({"colums": {}}, "colums"),
    ],
)
def test_wrong_settings(path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config_of(path, **settings)


def test_the_content_counts_and_not_the_place(path: Path, tmp_path: Path) -> None:
    def digest(file: Path) -> str:
        return build(config_of(file), context=BuildContext(cache_dir=tmp_path)).content_hash()

    copy = tmp_path / "copy.csv"
    copy.write_bytes(path.read_bytes())
    assert digest(copy) == digest(path)
    copy.write_bytes(path.read_bytes() + b"u1,99,3,1600000000\n")
    assert digest(copy) != digest(path)
    assert "Sample negatives by a rule of your own" in IMPLICIT


def labelled(path: Path, labels: Mapping[int, Any]) -> Path:
    return write(path, [(user, item, labels[stars], when) for user, item, stars, when in rows()])


LABEL_COLUMNS = {"user": "who", "item": "what", "timestamp": "when", "label": "stars"}


@pytest.mark.parametrize(
    "words", [("-1", "1"), ("no", "yes"), ("N", "Y"), ("f", "t"), ("Dislike", "Like"), ("-1.0", "+1")]
)
def test_labels_in_words(tmp_path: Path, words: tuple[str, str]) -> None:
    path = labelled(tmp_path / "a.csv", {stars: words[stars > 3] for stars in range(1, 6)})
    table = load(path, columns=LABEL_COLUMNS, label={"from": "label"})
    assert pairs(table, label=1) == {(user, str(item)) for user, item, stars, _ in rows() if stars > 3}


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        ({1: -1, 2: -1, 3: 0, 4: 1, 5: 1}, r"-1 \(\d+\), 0 \(\d+\), 1 \(\d+\)"),
        ({1: 1, 2: 1, 3: 2, 4: 2, 5: 2}, r"1 \(\d+\), 2 \(\d+\)"),
        ({1: "bad", 2: "meh", 3: "meh", 4: "good", 5: "good"}, "meh"),
    ],
)
def test_labels_that_are_not_known_are_not_dropped(tmp_path: Path, labels: dict[int, Any], shown: str) -> None:
    path = labelled(tmp_path / "a.csv", labels)
    with pytest.raises(DataError, match=rf"columns\.label: 'stars' holds .*{shown}") as caught:
        load(path, columns=LABEL_COLUMNS, label={"from": "label"})
    assert "max_bad_rows" not in str(caught.value)


def test_ratings_that_mean_not_rated(tmp_path: Path) -> None:
    unrated = [(user, item, 0 if (user, item, when)[1] % 3 else stars, when) for user, item, stars, when in rows()]
    path = write(tmp_path / "a.csv", unrated)
    n_zero = sum(stars == 0 for *_, stars, _ in unrated)
    said = [note for note in load(path).notes if "may mean 'not rated'" in note]
    assert said == [note for note in said if f"of {n_zero:,} rows" in note]
    assert len(said) == 1
    table = load(path, label={"from": "rating", "positive_above": 3, "not_rated": [0]})
    assert table.frame.height == 200 - n_zero
    assert f"{n_zero} rows whose rating means 'not rated' ([0]) are left out" in table.notes
    assert not any("may mean" in note for note in table.notes)
    with pytest.raises(ValidationError, match="remove positive_above, lowest, highest and not_rated"):
        config_of(path, columns=LABEL_COLUMNS, label={"from": "label", "not_rated": [0]})


def test_a_rare_class_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [(*row[:2], 5 if place < 2 else 1, row[3]) for place, row in enumerate(rows())])
    assert "only 2 of 200 rows (1.0%) are positive: look at the label rule" in load(path).notes
    assert not any("look at the label rule" in note for note in load(write(path, rows())).notes)


def test_times_that_the_user_says(tmp_path: Path) -> None:
    days = [(*row[:3], f"{(row[3] - START) / 86400 + 44087:.6f}") for row in rows()]
    path = write(tmp_path / "a.csv", days)
    with pytest.raises(DataError, match=r"columns\.timestamp: 'when' is not a column of times.*`spreadsheet-days`"):
        load(path)
    table = load(path, times="spreadsheet-days")
    assert "timestamps read as spreadsheet days" in table.notes
    relative = load(write(path, [(*row[:3], row[3] - START) for row in rows()]), times="relative")
    assert sorted(relative.frame["timestamp"]) == sorted(row[3] - START for row in rows())
    with pytest.raises(ValidationError, match="relative times have no dates"):
        config_of(path, times="relative", split={"by": "dates", "valid_from": "2020-01-01", "test_from": "2020-01-02"})
    with pytest.raises(ValidationError, match=r"columns\.timestamp holds, which is not set"):
        config_of(path, times="days", columns={**COLUMNS, "timestamp": None}, split={"by": "random"})


def test_an_items_file_about_other_items(path: Path, tmp_path: Path) -> None:
    columns = {**COLUMNS, "title": "name", "items_key": "no"}
    items = write(tmp_path / "items.csv", [(f"tt{item}", f"Film {item}") for item in range(40)], ("no", "name"))
    with pytest.raises(
        DataError,
        match=r"dataset\.items: the ids in 'no' of .*items\.csv match the items of 0 of 200 .*sales\.csv has '",
    ) as caught:
        load(path, items=items, columns=columns)
    assert "items.csv has 'tt0', 'tt1', 'tt2'" in str(caught.value)
    counted = sorted(range(40), key=lambda item: -sum(row[1] == item for row in rows()))
    n_known = 0
    for n in range(40):
        n_known += sum(row[1] == counted[n] for row in rows())
        write(items, [(f"{item}.0", f"Film {item}") for item in counted[: n + 1]], ("no", "name"))
        if 2 * n_known >= 200:
            assert dict(zip(*(load(path, items=items, columns=columns).item_ids,) * 2, strict=True))
            break
        with pytest.raises(DataError, match=f"match the items of {n_known} of 200"):
            load(path, items=items, columns=columns)


def test_lines_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    text = "who,what,stars,when\n" + "".join(f"é{user},{item},{stars},{when}\n" for user, item, stars, when in rows())
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(BadRowsError, match="not UTF-8 text: 200"):
        load(path)
    assert load(path, encoding="latin-1").user_ids[1].startswith("é")
    for wrong in ("utf-99", "rot13", "utf-16"):
        with pytest.raises(ValidationError, match="encoding"):
            config_of(path, encoding=wrong)


def test_long_titles_are_cut_where_the_spec_says(path: Path, tmp_path: Path) -> None:
    items = write(tmp_path / "items.csv", [(item, "x" * (item + 10)) for item in range(40)], ("no", "name"))
    columns = {**COLUMNS, "title": "name", "items_key": "no"}
    table = load(path, items=items, columns=columns, longest_title=20)
    assert max(len(title) for title in table.titles) == 20
    assert dict(zip(table.item_ids, table.titles, strict=True))["11"] == "x" * 17 + "..."
    assert dict(zip(table.item_ids, table.titles, strict=True))["10"] == "x" * 20
    assert "29 titles of more than 20 characters are cut" in table.notes


def test_a_missing_title_in_words_is_no_title(path: Path, tmp_path: Path) -> None:
    names = [(item, "nan" if item < 5 else "None" if item == 5 else f"Film {item}") for item in range(40)]
    items = write(tmp_path / "items.csv", names, ("no", "name"))
    table = load(path, items=items, columns={**COLUMNS, "title": "name", "items_key": "no"})
    titles = dict(zip(table.item_ids, table.titles, strict=True))
    assert (titles["4"], titles["5"], titles["6"]) == ("item 4", "None", "Film 6")
    assert "titles that are words for a missing value are not used: 'nan' (5)" in table.notes


def test_a_folder_of_parts_counts_by_its_parts(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    write(folder / "part-0.csv", rows()[:120])
    write(folder / "part-1.csv", rows()[120:])
    whole, parted = load(path), load(folder)
    assert pairs(parted, label=1, split="test") == pairs(whole, label=1, split="test")
    source = build(config_of(folder), context=BuildContext(cache_dir=tmp_path))
    before = source.content_hash()
    (folder / "part-1.csv").rename(folder / "part-2.csv")
    assert source.content_hash() != before


def test_settings_say_what_is_readable() -> None:
    assert get_args(config.TimeForm) == get_args(times.TimeForm)
    assert tuple(table_files.ENDINGS) == config.ENDINGS


ITEMS = [(item, f"Film {item}", "Drama" if item % 2 else "War", 1900 + item, item / 4) for item in range(38)]
USERS = [(f"u{user}", 20 + user, "" if user == 3 else "yes") for user in range(12)]


def attributed(tmp_path: Path, path: Path, **settings: Any) -> InteractionTable:
    items = write(tmp_path / "items.csv", ITEMS, ("no", "name", "genre", "year", "price"))
    users = write(tmp_path / "users.csv", USERS, ("id", "age", "member"))
    given: dict[str, Any] = {
        "items": items,
        "users": users,
        "columns": {**COLUMNS, "title": "name", "items_key": "no", "users_key": "id"},
        "item_attributes": ("year", "genre", "price"),
        "user_attributes": ("member", "age"),
    }
    return load(path, **{**given, **settings})


def test_attributes_are_those_of_their_ids(tmp_path: Path, path: Path) -> None:
    table = attributed(tmp_path, path)
    assert table.user_attributes is not None and table.item_attributes is not None
    users = dict(zip(table.user_ids, table.user_attributes.rows(), strict=True))
    assert users.pop("") == (None, None)
    assert users == {user: (member or None, age) for user, age, member in USERS}
    items = dict(zip(table.item_ids, table.item_attributes.rows(), strict=True))
    wanted = {str(item): (year, genre, price) for item, _, genre, year, price in ITEMS}
    assert items == {item: wanted.get(item, (None, None, None)) for item in table.item_ids}
    assert dict(table.item_attributes.schema) == {"year": pl.Int64, "genre": pl.String, "price": pl.Float64}


def test_attributes_change_no_row_and_no_fingerprint_but_their_own(tmp_path: Path, path: Path) -> None:
    table, plain = attributed(tmp_path, path), load(path)
    assert table.frame.equals(plain.frame)
    assert plain.user_attributes is None
    payload = config_payload(config_of(path))
    assert not {"item_attributes", "user_attributes", "users_key"} & {*payload, *payload["columns"]}
    items = write(tmp_path / "more.csv", ITEMS, ("what", "name", "genre", "year", "price"))
    more = config_of(path, items=items, columns={**COLUMNS, "title": "name"}, item_attributes=("year",))
    assert config_payload(more)["item_attributes"] == ["year"]


def test_attributes_from_json_and_parquet_keep_their_types(tmp_path: Path, path: Path) -> None:
    frame = pl.DataFrame(ITEMS, schema=["no", "name", "genre", "year", "price"], orient="row")
    frame.write_parquet(tmp_path / "items.parquet")
    frame.write_ndjson(tmp_path / "items.jsonl")
    for name in ("items.parquet", "items.jsonl"):
        table = attributed(tmp_path, path, items=tmp_path / name)
        assert table.item_attributes is not None
        assert table.item_attributes.equals(attributed(tmp_path, path).item_attributes)


def test_further_and_unusable_rows_of_attributes_are_said(tmp_path: Path, path: Path) -> None:
    table = attributed(tmp_path, path)
    users = write(tmp_path / "more.csv", [*USERS, ("u1", 99, "no"), USERS[2], ("", 3, "")], ("id", "age", "member"))
    other = attributed(tmp_path, path, users=users)
    assert other.user_attributes is not None
    assert other.user_attributes.equals(table.user_attributes)
    assert "1 further rows of more.csv with other attributes of the same user are not used" in other.notes
    assert "1 rows of more.csv give no attributes (user is missing: 1)" in other.notes


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"item_attributes": ("year",)},
            "names columns of `items`, which is not set: name the file with one row per item",
        ),
        ({"user_attributes": ("age",)}, "names columns of `users`, which is not set"),
        ({"users": "users.csv"}, "`users` is given, so `user_attributes` must name the columns to read of it"),
        ({"users": "users.csv", "user_attributes": ("age", "age")}, "names 'age' twice"),
        ({"users": "users.csv", "user_attributes": ("user",)}, "an attribute may not be called 'user'"),
        ({"users": "users.xls", "user_attributes": ("age",)}, "unknown ending"),
    ],
)
def test_attributes_without_their_file(path: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as raised:
        config_of(path, **settings)
    assert words in str(raised.value)


def test_a_missing_attribute_is_named_with_the_nearest(tmp_path: Path, path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset\.attributes: no column 'agee' \(did you mean 'age'\?\)"):
        attributed(tmp_path, path, user_attributes=("agee",))
    given = {"users": tmp_path / "users.csv", "user_attributes": ("agee",), "columns": {**COLUMNS, "users_key": "id"}}
    with pytest.raises(DataError, match="did you mean 'age'"):
        build(config_of(path, **given), context=BuildContext(tmp_path)).look()
