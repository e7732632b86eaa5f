"""Dataset `files`: every rule beside a count by hand, every kind of bad row and wrong spec by name."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest
from own_tables import COLUMNS, COMPONENT, START, Row, config_of, load, pairs, rows, write
from pydantic import ValidationError

from collm.component import BuildContext
from collm.contracts.data import LAST_OUT_LEAKS
from collm.errors import DataError
from collm.ingest.bad_rows import BadRowsError
from collm.spec.fingerprint import config_payload
from collm.testing.dataset_suite import DatasetContract
from collm_files.config import NO_TIMES, RANDOM_LEAKS
from collm_files.source import FILE_ORDER_RULE, TIE_RULE, build


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
    # Work of specs from before the fields were there stays finished.
    assert config_payload(config.split) == {
        "by": "leave-last-out", "valid": None, "test": None, "valid_from": None, "test_from": None, "seed": None
    }  # fmt: skip


def test_leave_last_out_takes_several_positives(path: Path) -> None:
    table = load(path, split={"by": "leave-last-out", "last_rows": 2, "last_of": "positives"})
    liked: dict[str, list[tuple[int, str]]] = {}
    for user, item, stars, when in rows():
        if stars > 3:
            liked.setdefault(user, []).append((when, str(item)))
    last = {user: sorted(items)[-4:] for user, items in liked.items() if len(items) >= 5}
    assert last
    assert pairs(table, split="test", label=1) == {
        (user, item) for user, items in last.items() for _, item in items[2:]
    }
    assert pairs(table, split="valid", label=1) == {
        (user, item) for user, items in last.items() for _, item in items[:2]
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
        ({"label": "implicit"}, r"implicit feedback .positives only.\. .* write label: \{from: positives, negatives"),
        ({"label": {"from": "implicit"}}, "implicit feedback .positives only."),
        ({"label": {"from": "rating"}}, "needs positive_above"),
        ({"label": {"from": "label"}}, "label"),
        ({"label": {"from": "rating", "positive_above": 3, "lowest": 5, "highest": 1}}, "must be smaller than highest"),
        ({"columns": {**COLUMNS, "timestamp": "stars"}}, "'stars' is named for both rating and timestamp"),
        ({"split": {"by": "quantiles", "valid": 0.6, "test": 0.5}}, "leave no rows for training"),
        ({"split": {"by": "quantiles", "seed": 1}}, "takes valid, test; remove seed"),
        ({"split": {"by": "quantiles", "last_rows": 2}}, "takes valid, test; remove last_rows"),
        ({"split": {"by": "leave-last-out", "valid": 0.1}}, "takes last_rows, last_of; remove valid"),
        ({"split": {"by": "leave-last-out", "last_rows": 0}}, "greater than or equal to 1"),
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
