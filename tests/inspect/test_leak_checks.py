"""Leak checks: each kind of leak is planted and found, clean data is clean, protocol fields remove what they name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from leak_tables import ALL, N_TIMES, changed, clean_table, prepared

from collm.contracts.data import SPLITS, InteractionTable, Limit, Visibility
from collm.data.history import HistoryIndex
from collm.data.prepared import PreparedData
from collm.errors import DataError
from collm.inspect.leak_checks import CHECKS, EVALUATED, Finding, find_leaks, utc
from collm.inspect.similar_titles import title_keys

MAX_ITEMS = 5
TEST_ROW = N_TIMES - 1  # the test row of the first user; the rows before it are the user's other ones
LAST_VALID = 3 * N_TIMES - 2  # the third user's validation row, later than those of the others


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {each.check.name: each for each in findings}


# In all but the smallest data somebody rated the item, or another item, in the evaluation period before a row of it.
USUAL = "evaluation-labels"


def found(data: PreparedData, max_items: int = MAX_ITEMS) -> set[str]:
    """Names of the checks that found something, but for what is in almost all data."""
    return {each.check.name for each in find_leaks(data, max_items=max_items) if each.found} - {USUAL}


def affected_rows(data: PreparedData, name: str, split: str = "test") -> list[int]:
    finding = by_name(find_leaks(data, max_items=MAX_ITEMS))[name]
    return data.rows(split).row[finding.affected[split]].tolist()


@pytest.mark.parametrize("visibility", ALL)
def test_clean_data_is_clean(tmp_path: Path, visibility: Visibility) -> None:
    data = prepared(clean_table(), tmp_path, visibility=visibility)
    findings = find_leaks(data, max_items=MAX_ITEMS)
    assert [each.check for each in findings] == list(CHECKS)
    assert [each.check.name for each in findings if each.found] == ([] if visibility == "as-of-split" else [USUAL])
    assert (data.history(data.rows("test"), MAX_ITEMS) > 0).any()
    assert {each.share() for each in findings if each.check.name != USUAL} == {0.0}


@pytest.mark.parametrize(
    ("row", "values", "under_all", "strictly_earlier", "as_of_split"),
    [
        pytest.param(
            *(5, {"item": 8, "label": 1}, {"target-in-history", "repeated-pair"}, {"repeated-pair"}, {"repeated-pair"}),
            id="target",
        ),
        pytest.param(
            *(
                5,
                {"timestamp": 7_000, "label": 1, "split": "valid"},
                {"same-second", "evaluation-history"},
                set(),
                set(),
            ),
            id="same-second",
        ),
        pytest.param(*(6, {"label": 1}, {"evaluation-history"}, {"evaluation-history"}, set()), id="evaluation"),
    ],
)
def test_planted_history_leaks_are_found_and_removed_by_visibility(
    tmp_path: Path,
    row: int,
    values: dict[str, Any],
    under_all: set[str],
    strictly_earlier: set[str],
    as_of_split: set[str],
) -> None:
    table = changed(clean_table(), row, **values)
    expected = dict(zip(ALL, (under_all, strictly_earlier, as_of_split), strict=True))
    data = {visibility: prepared(table, tmp_path / visibility, visibility=visibility) for visibility in ALL}
    assert {visibility: found(each) for visibility, each in data.items()} == expected
    for name in under_all:
        assert affected_rows(data["all"], name) == [TEST_ROW], name


def test_strictly_earlier_still_shows_the_evaluation_period(tmp_path: Path) -> None:
    data = prepared(changed(clean_table(), 6, label=1), tmp_path, visibility="strictly-earlier")
    assert found(data) == {"evaluation-history"}
    details = by_name(find_leaks(data, max_items=MAX_ITEMS))["evaluation-history"].details
    assert details["shown_items"]["test"]["flagged"] == 1
    assert details["shown_items"]["valid"]["flagged"] == 0


def test_rows_of_no_split_count_as_evaluation_period_by_their_time(tmp_path: Path) -> None:
    late = clean_table()
    late = replace(
        late,
        frame=late.frame.with_columns(
            pl.when(pl.col("row") == LAST_VALID).then(None).otherwise(pl.col("split")).alias("split"),
            pl.when(pl.col("row") == LAST_VALID).then(1).otherwise(pl.col("label")).cast(pl.Int8).alias("label"),
        ),
    )
    assert affected_rows(prepared(late, tmp_path / "late"), "evaluation-history") == [LAST_VALID + 1]
    early = replace(
        late,
        frame=late.frame.with_columns(
            pl.when(pl.col("row") == 1).then(None).otherwise(pl.col("split")).alias("split"),
            pl.when(pl.col("row") == LAST_VALID).then(0).otherwise(pl.col("label")).cast(pl.Int8).alias("label"),
        ),
    )
    assert found(prepared(early, tmp_path / "early")) == set()


def test_a_shorter_history_shows_fewer_leaks(tmp_path: Path) -> None:
    table = changed(clean_table(), 0, item=8, label=1)
    data = prepared(table, tmp_path)
    assert "target-in-history" in found(data, max_items=6)
    assert "target-in-history" not in found(data, max_items=2)
    assert found(data, max_items=0) == {"repeated-pair"}


def test_offsets_that_reach_too_far_are_found(tmp_path: Path) -> None:
    """As a folder written by someone else may have them: one place too many shows the row itself or a later one."""
    table = changed(clean_table(), TEST_ROW, label=1)
    data = prepared(table, tmp_path)
    index = data.history_index()
    end = index.end.copy()
    end[TEST_ROW] += 1
    itself = data.with_histories(HistoryIndex(index.positives, index.start, end, 0), data.titles)
    assert found(itself) >= {"target-in-history", "same-second"}
    end[TEST_ROW - 1] += 1
    later = data.with_histories(HistoryIndex(index.positives, index.start, end, 0), data.titles)
    assert affected_rows(later, "later-history", "valid") == [TEST_ROW - 1]
    swapped = HistoryIndex(index.positives[::-1].copy(), index.start, index.end, 0)
    with pytest.raises(DataError, match=r"positives\.parquet: its .* entries are not the .* positives"):
        find_leaks(data.with_histories(swapped, data.titles), max_items=MAX_ITEMS)


def test_repeated_pairs_are_those_of_an_earlier_split(tmp_path: Path) -> None:
    data = prepared(changed(clean_table(), TEST_ROW, item=7), tmp_path / "valid-test")
    assert affected_rows(data, "repeated-pair") == [TEST_ROW]  # appears in validation too
    assert affected_rows(data, "repeated-pair", "valid") == []  # its first time
    both = changed(clean_table(), 6, item=1)
    data = prepared(both, tmp_path / "train-valid", limit=Limit(train=1, valid=2))
    in_valid = set(data.rows("valid").row.tolist())
    assert affected_rows(data, "repeated-pair", "valid") == sorted({6} & in_valid)
    one_row_each = both.frame.sort("timestamp").unique(["user", "item"], keep="last", maintain_order=True).sort("row")
    assert "repeated-pair" not in found(prepared(replace(both, frame=one_row_each), tmp_path / "removed"))


def test_rows_before_the_last_training_row(tmp_path: Path) -> None:
    data = prepared(changed(clean_table(), 2 * N_TIMES + 5, timestamp=6_001), tmp_path)
    assert affected_rows(data, "time-overlap", "valid") == [6]  # 6000; the others are of 6001 and 6002
    assert affected_rows(data, "time-overlap") == []
    details = by_name(find_leaks(data, max_items=MAX_ITEMS))["time-overlap"].details
    assert details == {"last_training_row": "1970-01-01T01:40:01Z"}


def test_unseen_users_and_items(tmp_path: Path) -> None:
    table = clean_table()
    fresh = replace(
        table,
        frame=table.frame.with_columns(
            pl.when(pl.col("row") == TEST_ROW).then(9).otherwise(pl.col("item")).cast(pl.Int32).alias("item"),
            pl.when(pl.col("row") == 2 * N_TIMES - 1).then(4).otherwise(pl.col("user")).cast(pl.Int32).alias("user"),
        ),
        user_ids=[*table.user_ids, "u4"],
        item_ids=[*table.item_ids, "i9"],
        titles=[*table.titles, "New"],
    )
    data = prepared(fresh, tmp_path)
    assert found(data) == {"unseen-user", "unseen-item"}
    assert affected_rows(data, "unseen-item") == [TEST_ROW]
    assert affected_rows(data, "unseen-user") == [2 * N_TIMES - 1]


def test_similar_titles_and_their_twins_in_the_history(tmp_path: Path) -> None:
    table = clean_table()
    titles = list(table.titles)
    titles[8], titles[5] = "Matrix, The (1999)", "THE MATRIX"  # 5 is the first user's last positive but one
    data = prepared(replace(table, titles=titles), tmp_path)
    findings = by_name(find_leaks(data, max_items=MAX_ITEMS))
    assert TEST_ROW in affected_rows(data, "similar-title")
    assert affected_rows(data, "similar-title-in-history") == [TEST_ROW]
    details = findings["similar-title"].details
    assert (details["items"], details["groups"], details["share_of_items"]) == (2, 1, 0.25)
    assert details["items_with_identical_title"] == 0
    assert details["examples"] == [["THE MATRIX", "Matrix, The (1999)"]]


def test_one_split_alone_and_none_of_its_rows(tmp_path: Path) -> None:
    findings = find_leaks(prepared(clean_table(), tmp_path), max_items=MAX_ITEMS, splits=["test"])
    assert {name for each in findings for name in each.affected} == {"test"}
    empty = Finding(CHECKS[0], {split: np.zeros(0, dtype=bool) for split in EVALUATED})
    assert (empty.found, empty.share()) == (False, 0.0)
    assert empty.plain()["splits"] == {split: {"rows": 0, "share": 0.0} for split in EVALUATED}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("visibility", ALL)
def test_random_tables_as_a_loop_over_rows_finds_them(
    make_table: Any, tmp_path: Path, seed: int, visibility: Visibility
) -> None:
    table = make_table(seed, n_rows=150, n_users=5, n_items=7, n_times=40)
    titles = list(table.titles)
    titles[3], titles[6] = "Heat (1995)", "heat"
    table = replace(table, titles=titles)
    max_items = 1 + seed % 4
    data = prepared(table, tmp_path, visibility=visibility)
    findings = find_leaks(data, max_items=max_items)
    expected = naive(table, visibility, max_items)
    for each in findings:
        for split in EVALUATED:
            rows = set(data.rows(split).row[each.affected[split]].tolist())
            assert rows == expected[each.check.name][split], (each.check.name, split)


def naive(table: InteractionTable, visibility: Visibility, max_items: int) -> dict[str, dict[str, set[int]]]:
    """The definitions, one row and one pair of rows at a time."""
    rows = table.frame.to_dicts()
    keys = title_keys(pl.Series(list(table.titles))).to_list()
    twins = {item for item in range(1, len(keys)) if keys[item] is not None and keys.count(keys[item]) > 1}
    affected: dict[str, dict[str, set[int]]] = {each.name: {s: set() for s in EVALUATED} for each in CHECKS}
    first_evaluation = min(other["timestamp"] for other in rows if other["split"] in EVALUATED)
    last_training = max(other["timestamp"] for other in rows if other["split"] == "train")
    trained = [other for other in rows if other["split"] == "train"]
    for row in rows:
        if row["split"] not in EVALUATED:
            continue

        def mark(name: str, flag: bool, row: dict[str, Any] = row) -> None:
            if flag:
                affected[name][row["split"]].add(row["row"])

        shown = naive_history(rows, row, visibility)[-max_items:]
        mark("target-in-history", any(other["item"] == row["item"] for other in shown))
        mark("later-history", any(other["timestamp"] > row["timestamp"] for other in shown))
        mark("same-second", any(other["timestamp"] == row["timestamp"] for other in shown))
        mark(
            "evaluation-history",
            any(
                other["split"] in EVALUATED or (other["split"] is None and other["timestamp"] >= first_evaluation)
                for other in shown
            ),
        )
        mark(
            "evaluation-labels",
            visibility != "as-of-split"
            and any(
                other["split"] != "train" and other["timestamp"] < row["timestamp"]
                for other in rows
                if other["user"] == row["user"] or other["item"] == row["item"]
            ),
        )
        earlier = SPLITS[: SPLITS.index(row["split"])]
        pairs = [(other["user"], other["item"]) for other in rows if other["split"] in earlier]
        mark("repeated-pair", (row["user"], row["item"]) in pairs)
        mark("time-overlap", row["timestamp"] < last_training)
        mark("unseen-user", row["user"] not in {other["user"] for other in trained})
        mark("unseen-item", row["item"] not in {other["item"] for other in trained})
        mark("similar-title", row["item"] in twins)
        mark(
            "similar-title-in-history",
            any(o["item"] != row["item"] and keys[o["item"]] == keys[row["item"]] for o in shown),
        )
    return affected


def naive_history(rows: list[dict[str, Any]], row: dict[str, Any], visibility: Visibility) -> list[dict[str, Any]]:
    mine = sorted((o for o in rows if o["user"] == row["user"] and o["label"] == 1), key=lambda o: o["order"])
    if visibility == "all":
        return [o for o in mine if o["order"] < row["order"]]
    return [
        o
        for o in mine
        if o["timestamp"] < row["timestamp"]
        and o["item"] != row["item"]
        and (visibility == "strictly-earlier" or o["split"] == "train")
    ]


def test_times_as_text() -> None:
    assert utc(0) == "1970-01-01T00:00:00Z"
    assert utc(10**15) == "1000000000000000"


def test_plain_findings_are_json_ready(tmp_path: Path) -> None:
    import json

    data = prepared(changed(clean_table(), 6, label=1), tmp_path)
    plain = [each.plain() for each in find_leaks(data, max_items=MAX_ITEMS)]
    assert json.loads(json.dumps(plain)) == plain
    (hit,) = (each for each in plain if each["found"] and each["name"] != USUAL)
    assert hit["fix"] == "`history.visibility: as-of-split`"
    assert hit["splits"]["test"] == {"rows": 1, "share": pytest.approx(1 / 3)}
    assert np.isclose(hit["splits"]["valid"]["share"], 0)
