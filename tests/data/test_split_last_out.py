"""The split leave-last-out, beside a loop over users, and in every dataset that offers it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from collm.component import BuildContext
from collm.contracts.data import LAST_OUT, LAST_OUT_LEAKS, CountedRows, InteractionTable, LastOut
from collm.data.checks import check_table
from collm.data.split import split_last_out
from collm.errors import DataError
from collm.registry import default_registry

OFFERING = ("amazon", "amazon-book", "cds-and-vinyl", "ml-100k", "ml-1m", "movielens-small", "tiny", "video-games")
# Settings that a dataset needs beside `split`.
NEEDS: dict[str, dict[str, Any]] = {"amazon": {"category": "Gift_Cards"}, "amazon-book": {"held_out_from": None}}


def by_hand(rows: list[tuple[int, int, int]], n: int, of: str) -> list[str]:
    """Walks each user's rows (user, order, label) backwards and counts."""
    split = ["train"] * len(rows)
    for user in {row[0] for row in rows}:
        places = sorted((order, place) for place, (who, order, _) in enumerate(rows) if who == user)
        counted = [order for order, place in places if of == "rows" or rows[place][2] == 1]
        if len(counted) < 2 * n + 1:
            continue
        first_valid, first_test = counted[-2 * n], counted[-n]
        for order, place in places:
            split[place] = "test" if order >= first_test else "valid" if order >= first_valid else "train"
    return split


def random_rows(seed: int) -> list[tuple[int, int, int]]:
    generator = np.random.default_rng(seed)
    rows = []
    for user in range(1, 30):
        n = int(generator.integers(1, 14))
        # Orders have gaps: only their sequence counts.
        orders = generator.choice(100, n, replace=False)
        rows += [(user, int(order), int(generator.random() < 0.5)) for order in orders]
    return [rows[place] for place in generator.permutation(len(rows))]


def frame_of(rows: list[tuple[int, int, int]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"user": pl.Int32, "order": pl.Int64, "label": pl.Int8}, orient="row")


@pytest.mark.parametrize("of", get_args(CountedRows))
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_as_counted_by_hand(seed: int, n: int, of: CountedRows) -> None:
    rows = random_rows(seed)
    split, notes = split_last_out(frame_of(rows), LastOut(n, of))
    expected = by_hand(rows, n, of)
    assert split.to_list() == expected
    few = [user for user in {row[0] for row in rows} if "test" not in {
        name for name, row in zip(expected, rows, strict=True) if row[0] == user
    }]  # fmt: skip
    assert few
    assert notes[1] == (
        f"split leave-last-out: {len(few)} of 29 users have fewer than {2 * n + 1} {of} and are in training alone"
    )


@pytest.mark.parametrize("of", get_args(CountedRows))
def test_no_training_row_of_a_user_is_later_than_its_test(of: CountedRows) -> None:
    frame = frame_of(random_rows(7))
    split, _ = split_last_out(frame, LastOut(2, of))
    for _, mine in frame.with_columns(split).sort("order").group_by("user"):
        assert mine["split"].to_list() == sorted(mine["split"], key=["train", "valid", "test"].index)


def test_rows_with_label_0_lie_in_the_split_of_their_time() -> None:
    labels = [0, 1, 0, 1, 0, 0, 1, 0]
    frame = frame_of([(1, place, label) for place, label in enumerate(labels)])
    split, notes = split_last_out(frame, LastOut(1, "positives"))
    assert split.to_list() == ["train"] * 3 + ["valid"] * 3 + ["test"] * 2
    assert notes == (
        "split leave-last-out: test is each user's last positive and the rows with label 0 behind it, validation the "
        "positive before and the rows with label 0 from there up to test, so training rows of some users can be later "
        "in time than test rows of others (leakage across users); a split at one moment for all users has none",
    )


@pytest.mark.parametrize(("of", "most"), [("rows", 4), ("positives", 3)])
def test_nobody_has_enough(of: CountedRows, most: int) -> None:
    frame = frame_of([(1, 0, 1), (1, 1, 1), (1, 2, 0), (1, 3, 1), (2, 0, 1)])
    with pytest.raises(DataError, match=rf"none of 2 users has 5 {of}: 2 for test.*the most are {most}: lower last_ro"):
        split_last_out(frame, LastOut(2, of))


def config_of(name: str, **settings: Any) -> Any:
    component = default_registry().get("dataset", name)
    return component.config(name=name, **NEEDS.get(name, {}), **{"split": LAST_OUT, **settings})


def load(name: str, cache: Path, **settings: Any) -> InteractionTable:
    build = default_registry().get("dataset", name).load_factory()
    table: InteractionTable = build(config_of(name, **settings), context=BuildContext(cache)).load()
    check_table(table)
    return table


def assert_is_last_out(table: InteractionTable, n: int, of: CountedRows) -> None:
    frame = table.frame
    expected = by_hand(frame.select("user", "order", "label").rows(), n, of)
    assert frame["split"].to_list() == expected
    assert sum("leakage across users" in note for note in table.notes) == 1


@pytest.mark.parametrize("name", OFFERING)
def test_every_dataset_offers_it_in_the_same_words(name: str) -> None:
    config = config_of(name, last_rows=3, last_of="positives")
    assert config.last_out == LastOut(3, "positives")
    assert config_of(name).last_out == LastOut(1, "rows")
    assert LAST_OUT_LEAKS in config.warnings()


def test_the_list_of_datasets_is_complete() -> None:
    fixed = {"collm-released", "prepared"}
    own = set(default_registry().names("dataset"))
    assert own == {*OFFERING, *fixed, "files"}


@pytest.mark.parametrize("name", OFFERING)
def test_settings_that_the_split_does_not_read(name: str) -> None:
    component = default_registry().get("dataset", name)
    needed = {} if name == "amazon-book" else NEEDS.get(name, {})
    with pytest.raises(ValidationError, match=r"last_rows belongs to split leave-last-out; with split .* remove it"):
        component.config(name=name, **needed, last_rows=1)
    with pytest.raises(ValidationError, match="last_of belongs to split leave-last-out"):
        component.config(name=name, **needed, last_of="positives")
    if name != "tiny":
        with pytest.raises(ValidationError, match="valid_share is not read with split leave-last-out"):
            config_of(name, valid_share=0.2)


def test_amazon_book_says_how_to_leave_its_own_split() -> None:
    component = default_registry().get("dataset", "amazon-book")
    with pytest.raises(ValidationError, match="write held_out_from: null"):
        component.config(name="amazon-book", split=LAST_OUT)


@pytest.mark.parametrize("of", get_args(CountedRows))
def test_tiny(tmp_path: Path, of: CountedRows) -> None:
    assert_is_last_out(load("tiny", tmp_path, last_rows=2, last_of=of), 2, of)


def test_the_split_is_no_content_of_tiny(tmp_path: Path) -> None:
    build = default_registry().get("dataset", "tiny").load_factory()
    config = default_registry().get("dataset", "tiny").config(name="tiny")
    before = build(config, context=BuildContext(tmp_path)).content_hash()
    # The digest that work of earlier versions has.
    assert before.startswith("7d9ab6433b059d8e")
    assert build(config_of("tiny"), context=BuildContext(tmp_path)).content_hash() == before


@pytest.mark.parametrize("of", get_args(CountedRows))
@pytest.mark.parametrize(
    ("name", "folder"),
    [("ml-100k", "ml-100k"), ("movielens-small", "ml-latest-small"), ("amazon", "amazon2018-gift-cards")],
)
def test_real_files(shared_data: Path, tmp_path: Path, name: str, folder: str, of: CountedRows) -> None:
    table = load(name, tmp_path, path=shared_data / folder, last_of=of)
    assert_is_last_out(table, 1, of)
    test = table.frame.filter(pl.col("split") == "test")
    assert test.filter(pl.col("label") == 1 if of == "positives" else pl.lit(True))["user"].is_unique().all()
