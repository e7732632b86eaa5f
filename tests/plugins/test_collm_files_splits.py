"""Dataset `files`: adjacency lists, and one file per split, with and without times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from own_tables import COLUMNS, START, config_of, load, pairs, rows, write
from pydantic import ValidationError

from collm.component import BuildContext
from collm.contracts.data import Limit
from collm.data.prepare import prepare
from collm.data.prepared import PreparedData
from collm.errors import DataError
from collm.inspect.leak_checks import find_leaks
from collm_files.config import NO_TIMES, ORDER_IS_TIME
from collm_files.reading import ADJACENCY_NOTE, ORDER_IS_TIME_NOTE
from collm_files.source import build

LABEL = {"from": "positives", "negatives": {"by": "uniform"}}
TRAIN = {user: [(7 * user + 3 * place) % 50 for place in range(12)] for user in range(20)}
TEST = {user: [(7 * user + 3 * place + 1) % 50 for place in range(3)] for user in range(20)}


class _StrictlyEarlier:
    visibility = "strictly-earlier"


def lines(path: Path, content: dict[int, list[int]]) -> Path:
    path.write_text("".join(f"{user} {' '.join(map(str, items))}\n" for user, items in content.items()))
    return path


def adjacency(folder: Path, **changed: Any) -> dict[str, Any]:
    return {
        "layout": "adjacency",
        "columns": {},
        "label": LABEL,
        "split": {"by": "files"},
        "test_interactions": lines(folder / "test.txt", TEST),
        **changed,
    }


def named(content: dict[int, list[int]]) -> set[tuple[str, str]]:
    return {(str(user), str(item)) for user, items in content.items() for item in items}


def prepared(path: Path, folder: Path, **settings: Any) -> PreparedData:
    source = build(config_of(path, **settings), context=BuildContext(cache_dir=folder))
    prepare(source, limit=Limit(), history=_StrictlyEarlier(), folder=folder)  # type: ignore[arg-type]
    return PreparedData.open(folder)


def test_adjacency_lists_as_they_are_published(tmp_path: Path) -> None:
    path = lines(tmp_path / "train.txt", TRAIN)
    table = load(path, **adjacency(tmp_path))
    assert pairs(table, split="test", label=1) == named(TEST)
    held_out, train = pairs(table, split="valid", label=1), pairs(table, split="train", label=1)
    assert held_out | train == named(TRAIN)
    assert len(held_out) == 24
    assert ADJACENCY_NOTE in table.notes
    assert any("validation 10% of the training file's rows, drawn with seed 0" in note for note in table.notes)
    other = load(path, **adjacency(tmp_path, split={"by": "files", "seed": 1, "valid": 0.2}))
    assert len(pairs(other, split="valid", label=1)) == 48


def test_held_out_rows_see_earlier_splits_alone(tmp_path: Path) -> None:
    path = lines(tmp_path / "train.txt", TRAIN)
    data = prepared(path, tmp_path / "data", **adjacency(tmp_path))
    split_of = {(int(row["user"]), int(row["item"])): row["split"] for row in data.interactions().iter_rows(named=True)}
    for split, seen in (("valid", {"train"}), ("test", {"train", "valid"})):
        of_split = data.rows(split)
        for user, target, items in zip(of_split.user, of_split.item, data.history(of_split, 30), strict=True):
            shown = [int(item) for item in items if item]
            assert {split_of[int(user), item] for item in shown} <= seen
            positives = [
                data.item_ids.index(str(item)) for item in TRAIN[int(data.user_ids[user])] if split == "test" or
                split_of[int(user), data.item_ids.index(str(item))] == "train"
            ]  # fmt: skip
            assert set(shown) == set(positives) - {int(target)}


def test_train_histories_follow_the_line(tmp_path: Path) -> None:
    path = lines(tmp_path / "train.txt", TRAIN)
    valid = lines(tmp_path / "valid.txt", {user: [(7 * user + 2) % 50] for user in TRAIN})
    data = prepared(path, tmp_path / "data", **adjacency(tmp_path, valid_interactions=valid))
    rows_of = data.rows("train").take(data.rows("train").label == 1)
    for user, target, items in zip(rows_of.user, rows_of.item, data.history(rows_of, 30), strict=True):
        line = [str(item) for item in TRAIN[int(data.user_ids[user])]]
        shown = [data.item_ids[item] for item in items if item]
        assert shown == line[: line.index(data.item_ids[target])]


def test_what_no_times_leave_unknown_is_said(tmp_path: Path) -> None:
    path = lines(tmp_path / "train.txt", TRAIN)
    (overlap,) = [
        each for each in find_leaks(prepared(path, tmp_path / "data", **adjacency(tmp_path)), max_items=10)
        if each.check.name == "time-overlap"
    ]  # fmt: skip
    assert not overlap.found
    assert overlap.plain()["details"] == {"last_training_row": None, "unknown": "the data has no times"}


def test_lines_in_the_order_of_time(tmp_path: Path) -> None:
    path = lines(tmp_path / "all.txt", TRAIN)
    settings = {"layout": "adjacency", "columns": {}, "label": LABEL, "split": {"by": "leave-last-out"}}
    with pytest.raises(ValidationError, match=r"needs columns\.timestamp, or `file_order: time` where that is known"):
        config_of(path, **settings)
    config = config_of(path, **settings, file_order="time")
    assert ORDER_IS_TIME in config.warnings()
    assert NO_TIMES not in config.warnings()
    table = load(path, **settings, file_order="time")
    assert pairs(table, split="test", label=1) == {(str(user), str(items[-1])) for user, items in TRAIN.items()}
    assert pairs(table, split="valid", label=1) == {(str(user), str(items[-2])) for user, items in TRAIN.items()}
    assert ORDER_IS_TIME_NOTE in table.notes
    with pytest.raises(ValidationError, match="file_order: time is for files without times"):
        config_of(path, file_order="time")


def test_tables_with_times_in_files_of_their_own(tmp_path: Path) -> None:
    ordered = sorted(rows(), key=lambda row: row[3])
    path = write(tmp_path / "a.csv", ordered[:150])
    test = write(tmp_path / "b.csv", ordered[150:])
    table = load(path, split={"by": "files"}, test_interactions=test)
    times = {split: table.frame.filter(table.frame["split"] == split)["timestamp"] for split in ("train", "valid")}
    assert pairs(table, split="test") == {(user, str(item)) for user, item, *_ in ordered[150:]}
    assert times["train"].max() < times["valid"].min()  # type: ignore[operator]
    assert len(times["valid"]) == 15
    assert sorted(table.frame["row"].to_list()) == [*range(2, 152), *range(153, 203)]
    assert sum(note == "a.csv: timestamps read as seconds since 1970" for note in table.notes) == 1
    valid = write(tmp_path / "c.csv", ordered[120:150])
    both = load(write(path, ordered[:120]), split={"by": "files"}, test_interactions=test, valid_interactions=valid)
    assert pairs(both, split="valid") == {(user, str(item)) for user, item, *_ in ordered[120:150]}
    with pytest.raises(DataError, match=r"b\.csv: dataset\.columns\.rating: no column 'stars'"):
        write(test, [("u1", 1, START)], ("who", "what", "when"))
        load(path, split={"by": "files"}, test_interactions=test)


def test_each_file_counts_in_the_content(tmp_path: Path) -> None:
    path = lines(tmp_path / "train.txt", TRAIN)
    source = build(config_of(path, **adjacency(tmp_path)), context=BuildContext(cache_dir=tmp_path))
    before = source.content_hash()
    lines(tmp_path / "test.txt", {**TEST, 0: [3]})
    assert source.content_hash() != before


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"columns": {"rating": "stars"}}, "an adjacency list holds ids alone; remove rating"),
        ({"columns": {"title": "name"}}, "an adjacency list holds ids alone; remove title"),
        ({"label": {"from": "rating", "positive_above": 3}}, "an adjacency list is implicit feedback"),
        ({"test_interactions": None}, "needs test_interactions"),
        ({"split": {"by": "random"}}, r"\{by: random\} does not read `test_interactions`"),
        ({"split": {"by": "files", "test": 0.1}}, "takes valid, seed; remove test"),
        ({"valid_interactions": Path("v.txt"), "split": {"by": "files", "valid": 0.1}}, "remove valid and seed"),
        ({"layout": "lists"}, "table"),
    ],
)
def test_wrong_settings_of_splits(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config_of(tmp_path / "train.txt", **adjacency(tmp_path, **changed))


def test_files_need_no_negatives_where_labels_are_there(tmp_path: Path) -> None:
    path, test = write(tmp_path / "a.csv", rows()[:150]), write(tmp_path / "b.csv", rows()[150:])
    columns = {**COLUMNS, "timestamp": None}
    table = load(path, columns=columns, split={"by": "files"}, test_interactions=test)
    assert table.frame["timestamp"].filter(table.frame["split"] == "test").n_unique() == 1
    assert not table.has_times
