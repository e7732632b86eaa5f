"""Dataset `files` with positives alone: drawn negatives in tables, prepared data, checks; and the filter by rows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from own_tables import START, Row, config_of, load, pairs, rows, write
from pydantic import ValidationError

from collm.component import BuildContext
from collm.contracts.data import Limit, Visibility
from collm.data.pairs import LATEST
from collm.data.prepare import prepare
from collm.data.prepared import PreparedData
from collm.data.prepared_files import read_manifest, write_manifest
from collm.data.slices import slice_masks
from collm.errors import DataError
from collm.inspect.leak_checks import find_leaks
from collm.spec.fingerprint import config_payload
from collm.trained.recommend import _seen
from collm_files.config import FILTER_LOOKS_AHEAD, FilesConfig
from collm_files.source import build
from collm_prepared.check import check_folder

CLICKS = {"user": "who", "item": "what", "timestamp": "when"}
UNIFORM = {"from": "positives", "negatives": {"per_positive": 2, "by": "uniform"}}


def clicks(n: int = 100) -> list[Row]:
    return [(user, item, when) for user, item, _, when in rows(n)]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write(tmp_path / "clicks.csv", clicks(), ("who", "what", "when"))


def settings(**changed: Any) -> dict[str, Any]:
    return {"columns": CLICKS, "label": UNIFORM, **changed}


class _History:
    def __init__(self, visibility: Visibility) -> None:
        self.visibility = visibility


def prepared(path: Path, folder: Path, visibility: Visibility = "strictly-earlier", **changed: Any) -> PreparedData:
    source = build(config_of(path, **settings(**changed)), context=BuildContext(cache_dir=folder))
    prepare(source, limit=Limit(), history=_History(visibility), folder=folder)
    return PreparedData.open(folder)


def test_every_row_is_a_positive_and_others_are_drawn(log: Path) -> None:
    table = load(log, **settings())
    own = {(user, str(item)) for user, item, _ in clicks()}
    assert pairs(table, label=1) == own
    assert not pairs(table, label=0) & own
    assert table.frame.filter(table.frame["label"] == 0).height == 200
    assert any("negatives are drawn, not observed (seed 0): for each positive 2 items" in note for note in table.notes)
    assert not any("positives" in note and "learn" in note for note in table.notes)


def test_the_rule_is_part_of_the_fingerprint(log: Path) -> None:
    def payload(**rule: Any) -> Any:
        return config_payload(config_of(log, **settings(label={"from": "positives", "negatives": rule})))

    base = payload(by="uniform")
    others = [payload(by="popularity"), payload(by="uniform", per_positive=2), payload(by="uniform", seed=1)]
    assert base not in others
    assert "negatives" not in config_payload(config_of(log))["label"]


def test_histories_show_positives_alone_and_pairs_have_the_same(log: Path, tmp_path: Path) -> None:
    for visibility in ("all", "strictly-earlier", "as-of-split"):
        data = prepared(log, tmp_path / visibility, visibility)
        liked = {user: {str(item) for who, item, _ in clicks() if who == user} for user in data.user_ids}
        rows_of = data.rows("test")
        history = data.history(rows_of, 10)
        seen: dict[tuple[int, int], set[tuple[int, ...]]] = {}
        for user, time, items in zip(rows_of.user, rows_of.timestamp, history, strict=True):
            assert {data.item_ids[item] for item in items if item} <= liked[data.user_ids[user]]
            seen.setdefault((int(user), int(time)), set()).add(tuple(items))
        assert all(len(each) == 1 for each in seen.values())


def test_drawn_rows_are_no_training_rows_of_users_and_items(log: Path, tmp_path: Path) -> None:
    data = prepared(log, tmp_path / "data")
    table = data.interactions()
    train = table.filter((table["split"] == "train") & ~table["sampled"])
    counts = Counter(train["item"].to_list())
    assert data.item_train_rows.tolist() == [counts[item] for item in range(data.n_items + 1)]
    tested = data.rows("test")
    trained = data.user_train_rows[tested.user], data.item_train_rows[tested.item]
    masks = slice_masks(*trained, warm="at-least-3", cold="rest")
    drawn = Counter(table.filter(table["split"] == "train")["item"].to_list())
    assert drawn != counts
    assert masks["warm"].tolist() == [
        counts[int(item)] >= 3 and Counter(train["user"].to_list())[int(user)] >= 3
        for user, item in zip(data.rows("test").user, data.rows("test").item, strict=True)
    ]


def test_drawn_items_may_be_recommended(log: Path, tmp_path: Path) -> None:
    data = prepared(log, tmp_path / "data")
    seen = _seen(SimpleNamespace(data=data), 1, LATEST)  # type: ignore[arg-type]
    assert {data.item_ids[item] for item in seen} == {
        str(item) for user, item, _ in clicks() if user == data.user_ids[1]
    }


def test_a_prepared_folder_of_drawn_rows_is_a_dataset(log: Path, tmp_path: Path) -> None:
    data = prepared(log, tmp_path / "data")
    check_folder(tmp_path / "data", data.manifest)
    users = tmp_path / "data" / "users.parquet"
    frame = pl.read_parquet(users)
    frame.with_columns(pl.col("train_rows") + (pl.col("user") == 1)).write_parquet(users)
    write_manifest(tmp_path / "data", data.manifest)
    with pytest.raises(DataError, match="column 'train_rows' is wrong for 1"):
        check_folder(tmp_path / "data", read_manifest(tmp_path / "data"))


def found_in(data: PreparedData) -> dict[str, int]:
    leaks = find_leaks(data, max_items=10)
    return {each.check.name: sum(int(mask.sum()) for mask in each.affected.values()) for each in leaks if each.found}


def test_leak_checks_say_nothing_wrong_and_see_what_leaks(log: Path, tmp_path: Path) -> None:
    leaks = {"target-in-history", "later-history", "same-second", "repeated-pair", "time-overlap"}
    assert not leaks & set(found_in(prepared(log, tmp_path / "sound")))
    again = write(tmp_path / "again.csv", [*clicks(), *((*row[:2], row[2] + 10**6) for row in clicks()[:20])],
                  ("who", "what", "when"))  # fmt: skip
    repeated = prepared(again, tmp_path / "repeated", duplicates="keep-all")
    assert found_in(repeated)["repeated-pair"] >= 10
    late = prepared(log, tmp_path / "random", split={"by": "random"})
    assert found_in(late)["time-overlap"] > 30


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ({"from": "positives"}, r"needs a rule for the rows with label 0: label: \{from: positives, negatives"),
        ({"from": "positives", "negatives": {}}, "by"),
        ({"from": "positives", "negatives": {"by": "popular"}}, "uniform"),
        ({"from": "positives", "negatives": {"by": "uniform", "per_positive": 0}}, "greater than or equal to 1"),
        ({"from": "positives", "positive_above": 3, "negatives": {"by": "uniform"}}, "takes every row as a positive"),
        ({"from": "label", "negatives": {"by": "uniform"}}, "has its own rows with label 0: remove `negatives`"),
    ],
)
def test_wrong_rules(log: Path, label: dict[str, Any], message: str) -> None:
    columns = {**CLICKS, "label": "liked"} if label["from"] == "label" else CLICKS
    with pytest.raises(ValidationError, match=message):
        config_of(log, columns=columns, label=label)


def test_a_log_of_one_class_hints_at_the_rule(tmp_path: Path) -> None:
    path = write(tmp_path / "ones.csv", [(*row, 1) for row in clicks()], ("who", "what", "when", "liked"))
    with pytest.raises(DataError, match=r"no row is negative: .* label: \{from: positives\}"):
        load(path, columns={**CLICKS, "label": "liked"}, label={"from": "label"})


def core(found: list[Row], users: int, items: int, *, stable: bool) -> set[Row]:
    """The filter, row by row."""
    kept = set(found)
    while True:
        n_user, n_item = Counter(row[0] for row in kept), Counter(row[1] for row in kept)
        left = {row for row in kept if n_user[row[0]] >= users and n_item[row[1]] >= items}
        if left == kept or not stable:
            return left
        kept = left


@pytest.mark.parametrize("by", ["k-core", "once"])
def test_filter(log: Path, by: str) -> None:
    """User y has 9 rows, one of them on an item that only x has, too: after one pass 8 are left."""
    content = [*clicks(150), ("x", 100, START), ("y", 100, START), *(("y", item, START + item) for item in range(8))]
    write(log, content, ("who", "what", "when"))
    config = config_of(log, **settings(filter={"by": by, "user_rows": 9, "item_rows": 3}))
    assert FILTER_LOOKS_AHEAD in config.warnings()
    table = load(log, **settings(filter={"by": by, "user_rows": 9, "item_rows": 3}))
    expected = core(content, 9, 3, stable=by == "k-core")
    assert 0 < len(core(content, 9, 3, stable=True)) < len(core(content, 9, 3, stable=False)) < 160
    assert pairs(table, label=1) == {(user, str(item)) for user, item, _ in expected}
    (said,) = [note for note in table.notes if note.startswith(f"filter {by}")]
    assert f"{len(expected)} of 160 rows" in said
    assert "counted over all splits before the split" in said


def test_a_filter_that_leaves_nothing_and_one_that_does_nothing(log: Path) -> None:
    with pytest.raises(DataError, match=r"0 of 100 rows, 0 of 12 users and 0 of \d+ items are left; lower user_rows"):
        load(log, **settings(filter={"user_rows": 100}))
    with pytest.raises(ValidationError, match="removes nothing"):
        config_of(log, **settings(filter={"user_rows": 1}))


def test_old_settings_have_their_old_fingerprint(path: Path) -> None:
    """Fields that came later are not part of it, so that finished work stays finished."""
    later = {"layout", "file_order", "filter", "valid_interactions", "test_interactions"}
    assert later <= set(FilesConfig.model_fields)
    assert not later & set(config_payload(config_of(path)))
    assert set(config_payload(config_of(path))["label"]) == {"from", "positive_above", "lowest", "highest", "not_rated"}
